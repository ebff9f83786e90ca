"""Advisories in a local export, what pip-audit prints, and what an interpreter holds."""

from __future__ import annotations

import datetime
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_edgeai.errors import MeasurementError, NotCertified
from pytest_edgeai.measure.audit import (
    PIP_AUDIT,
    STALEST_DAYS,
    audit_offline,
    audit_online,
    is_affected,
    read_pip_audit,
)
from pytest_edgeai.measure.audit_runtime import list_installed, required_distributions
from pytest_edgeai.measure.tools import Said, find_tool
from pytest_edgeai.production_records import Finding, Inspection

TODAY = datetime.date(2026, 11, 22)
RUNTIME = {"onnx-runtime-x": "1.5.0", "numpy": "2.4.6+local", "odd": "not a version"}


def advisory(identifier: str, name: str = "onnx_Runtime.x", **more: Any) -> dict[str, Any]:
    events = more.pop("events", [{"introduced": "0"}, {"fixed": "1.6.0"}])
    return {
        "id": identifier,
        "modified": "2026-11-20T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": more.pop("ecosystem", "PyPI"), "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
                "versions": more.pop("versions", []),
            }
        ],
        **more,
    }


def export(folder: Path, *records: Mapping[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for record in records:
        (folder / f"{record['id']}.json").write_text(json.dumps(record), "utf-8")
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


def audit(path: Path, distributions: Mapping[str, str] = RUNTIME) -> Inspection:
    return audit_offline(distributions, path, today=TODAY)


@pytest.mark.parametrize("pack", [False, True])
def test_a_known_vulnerability_is_found_once_whoever_records_it(tmp_path: Path, pack: bool) -> None:
    folder = export(
        tmp_path / "osv",
        advisory("GHSA-1", aliases=["CVE-2026-1"]),
        advisory("PYSEC-1", aliases=["CVE-2026-1"]),
        advisory("GHSA-2", events=[{"introduced": "1.5"}]),
        advisory("GHSA-3", withdrawn="2026-11-01T00:00:00Z"),
        advisory("GHSA-4", ecosystem="npm"),
        advisory("GHSA-5", name="onnx-runtime-y"),
        advisory("GHSA-6", events=[{"introduced": "1.5.1"}]),
    )
    seen = audit(zipped(folder) if pack else folder)
    assert [(each.where, each.what) for each in seen.findings] == [
        ("onnx-runtime-x 1.5.0", "GHSA-1 (CVE-2026-1), fixed in 1.6.0"),
        ("onnx-runtime-x 1.5.0", "GHSA-2, no fix is known"),
    ]
    assert seen.subjects == 3
    assert seen.tools == {"7 OSV advisories": "up to 2026-11-20"}
    assert seen.unread == ("odd not a version: this is no version that can be compared",)


def test_a_local_build_is_that_of_its_public_version(tmp_path: Path) -> None:
    folder = export(
        tmp_path / "osv", advisory("GHSA-1", name="numpy", versions=["2.4.6"], events=[])
    )
    [found] = audit(folder).findings
    assert found.where == "numpy 2.4.6+local"


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([{"introduced": "0"}], True),
        ([{"introduced": "0"}, {"fixed": "1.5.0"}], False),
        ([{"introduced": "0"}, {"fixed": "1.5.0.post1"}], True),
        ([{"introduced": "0"}, {"last_affected": "1.5.0"}], True),
        ([{"introduced": "0"}, {"last_affected": "1.4.9"}], False),
        ([{"fixed": "1.2"}, {"introduced": "1.4"}, {"fixed": "2"}, {"introduced": "1"}], True),
        ([{"introduced": "1"}, {"fixed": "1.5"}, {"introduced": "1.5"}], True),
        ([{"introduced": "1.5.1"}], False),
        ([{"introduced": "0"}, {"limit": "1.5.0"}], False),
        ([{"introduced": "0"}, {"limit": "1.5.1"}], True),
        ([{"introduced": "0"}, {"limit": "*"}], True),
        ([], False),
    ],
)
def test_ranges_are_those_of_the_osv_schema(events: list[dict[str, str]], affected: bool) -> None:
    entry = {"ranges": [{"type": "ECOSYSTEM", "events": events}]}
    assert is_affected(Version("1.5.0"), entry) is affected
    assert not is_affected(Version("1.5.0"), {"ranges": [{"type": "GIT", "events": events}]})


def test_an_export_that_says_nothing_certifies_nothing(tmp_path: Path) -> None:
    empty = export(tmp_path / "empty")
    with pytest.raises(NotCertified, match="holds no OSV advisory"):
        audit(empty)
    stale = advisory("GHSA-1") | {"modified": "2026-08-01T00:00:00Z"}
    with pytest.raises(NotCertified, match=f"113 days old, and at most {STALEST_DAYS}"):
        audit(export(tmp_path / "stale", stale))
    broken = tmp_path / "all.zip"
    broken.write_bytes(b"no archive")
    with pytest.raises(NotCertified, match=r"all\.zip cannot be read"):
        audit(broken)
    torn = export(tmp_path / "torn")
    (torn / "a.json").write_text('{"modified": "2026-11-20", "x": "numpy" ', "utf-8")
    with pytest.raises(NotCertified, match="torn cannot be read"):
        audit(torn)


def printed(entries: list[dict[str, Any]], code: int = 0) -> Said:
    return Said(code, json.dumps({"dependencies": entries, "fixes": []}), "", isolated=False)


def test_what_pip_audit_found_and_what_it_skipped_are_told_apart() -> None:
    said = printed(
        [
            {
                "name": "numpy",
                "version": "2.4.6",
                "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3.0"]}],
            },
            {"name": "odd", "skip_reason": "not found"},
        ],
        code=1,
    )
    seen = read_pip_audit(said, RUNTIME, "pip-audit 2.10.1")
    [found] = seen.findings
    assert (found.where, found.found_by) == ("numpy 2.4.6+local", "pip-audit 2.10.1")
    assert found.what == "PYSEC-1 (CVE-1), fixed in 3.0"
    assert [each.partition(":")[0] for each in seen.unread] == [
        "odd not a version",
        "onnx-runtime-x 1.5.0",
    ]


def test_an_audit_that_looked_nothing_up_certifies_nothing() -> None:
    skipped = [{"name": name, "skip_reason": "not found"} for name in RUNTIME]
    with pytest.raises(NotCertified, match="nothing about any of 3 distributions") as caught:
        read_pip_audit(printed(skipped), RUNTIME, "pip-audit 2")
    assert "advisories" in caught.value.advice
    failed = Said(1, "", "Traceback\nrequests.exceptions.ConnectionError: no route", isolated=False)
    with pytest.raises(NotCertified, match="no source of advisories can be reached"):
        read_pip_audit(failed, RUNTIME, "pip-audit 2")
    with pytest.raises(NotCertified, match="gave no report"):
        read_pip_audit(Said(2, "", "usage: wrong", isolated=False), RUNTIME, "pip-audit 2")


def test_pip_audit_itself_answers_or_says_why_not(tmp_path: Path) -> None:
    if find_tool(PIP_AUDIT, PIP_AUDIT) is None:
        pytest.skip("pip-audit is not installed; run: pip install 'pytest-edgeai[security]'")
    advice = ""
    findings: tuple[Finding, ...] = ()
    try:
        findings = audit_online({"jinja2": "2.4.1"}, tmp_path, time_limit_s=60.0).findings
    except NotCertified as error:
        advice = error.advice
    # Whether the index can be reached decides which of them it is.
    assert "advisories" in advice or any("CVE" in each.what for each in findings)


def test_without_pip_audit_nothing_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotCertified, match="pip-audit is not installed") as caught:
        audit_online(RUNTIME, tmp_path, time_limit_s=5.0)
    assert "pip install 'pytest-edgeai[security]'" in caught.value.advice


def test_requirements_are_followed_by_markers_and_extras() -> None:
    def entry(name: str, *requires: str) -> dict[str, Any]:
        return {"name": name, "version": "1.0", "requires": list(requires)}

    listing = {
        "markers": {"sys_platform": "linux", "python_version": "3.11"},
        "distributions": [
            entry(
                "Root_Package", "a[fast]>=1", "b; sys_platform == 'win32'", "not installed", "???"
            ),
            entry("a", "c; extra == 'fast'", "d; extra == 'slow'", "root-package"),
            *map(entry, "bcde"),
        ],
    }
    assert required_distributions(["root.package", "absent"], listing) == {
        "a": "1.0",
        "c": "1.0",
        "root-package": "1.0",
    }


def test_an_interpreter_is_asked_whether_it_is_this_one_or_not(tmp_path: Path) -> None:
    own = list_installed(Path(sys.executable))
    # The same Python by a path of another name counts as another interpreter.
    link = Path(sys.executable).with_name(
        "python3" if sys.executable.endswith("python") else "python"
    )
    if not link.exists():
        pytest.skip(f"there is no {link} beside this interpreter")
    other = list_installed(link)
    assert other["markers"] == own["markers"]
    found = required_distributions(["pytest"], other)
    assert {"pytest", "pluggy", "packaging", "iniconfig"} <= set(found)
    assert found == required_distributions(["pytest"], own)
    (tmp_path / "python").write_text("#!/bin/sh\necho nonsense\n", "utf-8")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(MeasurementError, match="cannot tell what is installed"):
        list_installed(tmp_path / "python")
