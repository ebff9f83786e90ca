"""``pytest --edge-self-check``, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from edge_runs import Place, running_workers
from models import require

QUICK = "precision or artifacts or unmeasurable or slower-50 or late-fault"


def run(pytester: pytest.Pytester, *arguments: str) -> tuple[pytest.RunResult, dict[str, Any]]:
    """Run a self-check of a few cases; return the result and the JSON report."""
    path = pytester.path / "check.json"
    path.unlink(missing_ok=True)
    result = pytester.runpytest_subprocess(
        "--edge-self-check",
        "--edge-self-check-budget=4",
        f"--edge-json={path}",
        *arguments,
        timeout=120,
    )
    return result, json.loads(path.read_text("utf-8")) if path.exists() else {}


def test_it_needs_no_project(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, "-k", QUICK)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] + outcomes["skipped"] == 5
    assert outcomes["passed"] >= 3
    text = result.stdout.str()
    assert "edge self-check" in text
    assert "Noise: stolen by the hypervisor" in text
    assert max(map(len, text.split(" edge self-check ")[1].splitlines())) <= 80
    cases = {case["name"]: case for case in report["cases"]}
    assert cases["late-fault"]["not_run"]
    assert cases["precision"]["rates"]["false_pass"]["trials"] == 2
    assert not any(case["falsehoods"] or case["error"] for case in cases.values())
    assert not (pytester.path / ".edgeai").exists()


def test_the_tests_of_the_project_are_not_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(): assert False")
    result, _ = run(pytester, "-k", "precision", "-v")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["edge-self-check::precision PASSED*"])
    result.stdout.no_fnmatch_line("*test_mine*")
    result.stdout.fnmatch_lines(["collected 23 items / 22 deselected / 1 selected"])
    listed, report = run(pytester, "--collect-only", "-q")
    listed.stdout.fnmatch_lines(["edge-self-check::same-model", "edge-self-check::rare-tail"])
    assert report == {}


def test_a_gate_that_passes_everything_is_caught(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import dataclasses
        from pytest_edgeai.selfcheck import artifacts

        honest = artifacts.judge_precision

        def careless(*arguments):
            return dataclasses.replace(honest(*arguments), outcome="pass")

        artifacts.judge_precision = careless
        """
    )
    result, report = run(pytester, "-k", "precision")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*model-int8 is int8 is missed and passed*",
            "*Do not trust the gates here: false verdicts in precision.*",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert report["rates"]["artifacts"]["false_pass"]["count"] == 2


def test_thresholds_of_the_manifest_are_checked(place: Place) -> None:
    require("onnx", "onnx")
    place.write("[gates]\nspeedup = 1.01\n")
    result, report = run(place.pytester, "-k", "same-model")
    if report["resolution"] is None:  # another session was measuring all the while
        pytest.skip(str(report["cases"]))
    assert any("speedup = 1.01 (edgeai.toml) of linear" in text for text in report["warnings"])
    assert any("59 evaluation samples" in text for text in report["notes"])
    assert report["resolution"]["trials"] >= 1
    result.stdout.fnmatch_lines(["WARNING: speedup = 1.01*"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--edge-self-check-budget=0"], "*--edge-self-check-budget*above 0*"),
        (["--edge-manifest=missing.toml"], "*missing.toml*"),
    ],
)
def test_wrong_settings_are_one_line(
    pytester: pytest.Pytester, arguments: list[str], says: str
) -> None:
    result = pytester.runpytest_subprocess("--edge-self-check", *arguments, timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
    assert "Traceback" not in result.stderr.str()


def test_it_is_not_distributed(pytester: pytest.Pytester) -> None:
    require("xdist", "pytest-xdist")
    result = pytester.runpytest_subprocess("--edge-self-check", "-n2", timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pytest-xdist*Run it without -n*"])


def test_a_variable_switches_it_on_and_off(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_mine(): pass")
    monkeypatch.setenv("PYTEST_EDGEAI_SELF_CHECK", "0")
    off = pytester.runpytest_subprocess(timeout=60)
    assert off.parseoutcomes() == {"passed": 1}
    off.stdout.no_fnmatch_line("*self-check*")
    monkeypatch.setenv("PYTEST_EDGEAI_SELF_CHECK", "1")
    on = pytester.runpytest_subprocess("-k", "artifacts", timeout=60)
    assert on.parseoutcomes()["passed"] == 1
    on.stdout.fnmatch_lines(["*self-check of this machine*"])


def test_a_report_that_cannot_be_written_is_an_error(pytester: pytest.Pytester) -> None:
    (pytester.path / "file").write_text("", encoding="utf-8")
    result = pytester.runpytest_subprocess(
        "--edge-self-check", "-k", "artifacts", "--edge-json=file/check.json", timeout=60
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_leaves_no_process(
    pytester: pytest.Pytester, temporary_files: Path, how: signal.Signals
) -> None:
    words = ["--edge-self-check", "--edge-self-check-budget=60", "-k", "busy-machine-same"]
    log = pytester.path / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
            cwd=pytester.path,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + 30
    while len(_busy(process.pid)) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    busy = _busy(process.pid)
    process.send_signal(how)
    process.wait(timeout=30)
    if not busy and "another session is measuring" in log.read_text("utf-8"):
        pytest.skip("another session was measuring all the while")
    assert busy or sys.platform != "linux", log.read_text("utf-8")
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in busy) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in busy if Path(f"/proc/{pid}").exists()]
    assert running_workers(temporary_files) == []
    # What a killed session left on the disk is removed by the next one.
    pytester.runpytest_subprocess("--edge-self-check", "-k", "artifacts", timeout=60)


def _busy(parent: int) -> list[int]:
    """Return the planted processes of a self-check; Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(parent).encode() in words and any(b"os.getppid()" in word for word in words):
            found.append(int(folder.name))
    return found
