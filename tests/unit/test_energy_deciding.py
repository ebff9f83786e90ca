"""What becomes of an energy that was not measured, and settings that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_edgeai.configuration import Settings
from pytest_edgeai.energy_deciding import decide_energy_retained
from pytest_edgeai.energy_settings import check_energy_settings
from pytest_edgeai.errors import UserError
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.records import Threshold
from pytest_edgeai.verdicts import on_proxy


@pytest.mark.parametrize("allowed", [False, True])
def test_an_estimate_on_a_proxy_host_keeps_its_own_reason(*, allowed: bool) -> None:
    verdict = make_verdict(
        "energy_retained",
        "proxy",
        Threshold(0.75, "at_most"),
        unit="ratio",
        reason="energy was not measured: no counter",
        advice="chmod",
        details={"outcome_on_proxy": "pass"},
    )
    shown = on_proxy(verdict, "it is no Intel", allowed=allowed)
    assert shown.outcome == "proxy"
    assert shown.reason == (
        "energy was not measured: no counter; this host is a proxy: it is no Intel"
    )
    assert shown.details == {"outcome_on_proxy": "pass"}
    assert shown.advice == "chmod"


@dataclass
class Set:
    """The settings that matter here."""

    sysfs: Path | None = None
    carbon_region: str | None = None

    def where(self, name: str) -> str:
        return f"edgeai.toml [settings] {name}"


def check(**values: Any) -> None:
    check_energy_settings(cast("Settings", Set(**values)))


def test_a_sysfs_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    check()
    check(sysfs=tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(UserError, match="is no directory") as caught:
            check(sysfs=path)
        assert caught.value.where == "edgeai.toml [settings] sysfs"


def test_without_a_limit_nothing_is_measured() -> None:
    nobody = cast("Any", None)
    verdict = decide_energy_retained(nobody, nobody, Threshold(None, "at_most"))
    assert verdict.outcome == "not_applicable"
    assert verdict.reason == "no limit is set"
