"""The table of settings: one name, one flag, one variable, one manifest key each."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_edgeai.settings import BY_NAME, OPTIONS, Option

KINDS = {"names", "choice", "path", "seconds", "count", "flag", "text", "thresholds", "reference"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_flag_a_variable_and_a_help_line(option: Option) -> None:
    assert option.flag == "--edge-" + option.name.replace("_", "-")
    assert option.variable == "PYTEST_EDGEAI_" + option.name.upper()
    assert option.destination.isidentifier()
    assert option.kind in KINDS
    assert option.help
    assert "\n" not in option.help
    assert not option.choices or option.kind in ("choice", "names")
    assert option.choices or option.kind != "choice"
    assert option.kind != "choice" or option.default in option.choices


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(OPTIONS)
    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)


def test_the_table_and_the_hooks_import_nothing() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_edgeai.plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded = [name for name in eval(done) if not name.startswith("pytest_edgeai")]
    assert loaded == []
