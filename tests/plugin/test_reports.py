"""What a session writes: reports, evidence, and nothing else, however it ends."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from edge_runs import CANDIDATE, GATES, Place, running_workers
from filelock import FileLock

from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.records import PairedTimings, Threshold

jsonschema = pytest.importorskip("jsonschema")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def test_samples_that_repeat_each_other_are_remarked(place: Place) -> None:
    place.write()
    path = place.path / place.linear.data.name
    with np.load(path) as archive:
        few = {name: archive[name][:5] for name in archive.files if name != "classes"}
    repeated: Any = {name: np.concatenate([array] * 20) for name, array in few.items()}
    np.savez(path, **repeated)
    run = place.run("-k", "accuracy_retained")
    remark = "linear: 95 of 100 evaluation samples repeat another one"
    assert any(note.startswith(remark) for note in run.report["notes"])


def test_every_report_of_one_run_agrees(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = place.path / "summary.md"
    summary.write_text("# what CI wrote\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    place.write()
    run = place.run("--edge-junit=edge.xml", "--edge-markdown=edge.md", "-W", "error")
    assert run.code == 0

    schema = importlib.resources.files("pytest_edgeai.report").joinpath("schema-1.json")
    jsonschema.validate(run.report, json.loads(schema.read_text("utf-8")))
    assert list(run.verdicts()) == [*GATES]

    markdown = (place.path / "edge.md").read_text("utf-8")
    assert markdown.startswith("## ✅ Ship")
    assert summary.read_text("utf-8") == "# what CI wrote\n" + markdown

    suite = ElementTree.parse(place.path / "edge.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("name") == f"linear.cross.{CANDIDATE}"
    assert [case.get("name") for case in suite.iter("testcase")] == [*GATES]

    evidence = Path(run.report["evidence"]["directory"])
    assert _digest(evidence) == run.report["evidence"]["sha256"]
    verdicts = evidence / "linear" / CANDIDATE / "verdicts"
    assert {path.stem for path in verdicts.iterdir()} == {*GATES}


def _digest(directory: Path) -> str:
    """Recompute the digest of the evidence as the documentation defines it."""
    total = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            total.update(path.relative_to(directory).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_verdicts_follow_from_the_evidence_alone(place: Place) -> None:
    place.write()
    run = place.run("-k", "accuracy or speedup")
    home = Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE
    with np.load(home / "timings.npz", allow_pickle=False) as archive:
        known = {field.name for field in dataclasses.fields(PairedTimings)}
        timings = PairedTimings(**{name: archive[name] for name in known & set(archive.files)})
    again = judge_speed(timings, Threshold(0.01, "at_least", "edgeai.toml"), budget_spent=False)
    gates = {gate["name"]: gate for gate in run.candidate()["gates"]}
    said = gates["speedup"]
    assert (again.outcome, again.observed, again.reason) == (
        said["outcome"],
        said["observed"],
        said["reason"],
    )
    assert again.interval is not None
    assert list(again.interval) == said["interval"]
    with np.load(home / "quality.npz", allow_pickle=False) as archive:
        ratio = archive["candidate_scores"].mean() / archive["baseline_scores"].mean()
    assert gates["accuracy_retained"]["observed"] == pytest.approx(ratio)


def test_a_report_that_cannot_be_written_fails_the_run_and_no_gate(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(
        test_takes="from pathlib import Path\ndef test_takes(): Path('edge.md').mkdir()\n"
    )
    run = place.run(
        "edgeai.toml", "test_takes.py", "-k", "sanity or takes", "--edge-markdown=edge.md"
    )
    assert (run.code, run.outcomes["passed"]) == (pytest.ExitCode.USAGE_ERROR, 2)
    assert "ERROR: " in run.text
    assert "edge.md: is a directory" in run.text
    assert "Traceback" not in run.text + run.result.stderr.str()


def test_the_newest_twenty_runs_are_kept_and_none_that_is_in_use(place: Place) -> None:
    place.write()
    evidence = place.path / ".edgeai" / "evidence"
    for second in range(25):
        (evidence / f"20200101T0000{second:02d}Z-00000000").mkdir(parents=True)
        (evidence / f"20200101T0000{second:02d}Z-00000000" / "kept.json").write_text("{}")
    oldest = "20200101T000000Z-00000000"
    with FileLock(evidence / f".{oldest}.lock"):
        place.run("-k", "sanity", own_cache=True)
        left = sorted(path.name for path in evidence.iterdir() if path.is_dir())
    assert oldest in left
    assert len(left) == 21, "twenty, and the one in use"
    assert left[1] == "20200101T000006Z-00000000"
    assert not left[-1].startswith("2020")
    place.run("-k", "sanity", own_cache=True)
    left = sorted(path.name for path in evidence.iterdir() if path.is_dir())
    assert len(left) == 20
    assert oldest not in left
    assert not list(evidence.glob(".*.lock")), "no lock outlives its run"


def start(place: Place, *arguments: str) -> subprocess.Popen[str]:
    """Start pytest with gates that measure for a long time."""
    command = [sys.executable, "-m", "pytest", "--edge-target=cross", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=place.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str], place: Place, *patterns: str) -> None:
    """Wait until each of the glob ``patterns`` finds something in the project."""
    deadline = time.monotonic() + 60.0
    while not all(any(place.path.glob(pattern)) for pattern in patterns):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@POSIX
@pytest.mark.parametrize("processes", [[], ["-n2"]])
def test_an_interrupt_ends_everything_and_reports_what_ran(
    place: Place, temporary_files: Path, processes: list[str]
) -> None:
    place.write("[gates]\nmemory_cut = false\nspeedup = 0.01\n")
    place.pytester.makepyfile(
        test_long="""
        import time
        from pathlib import Path

        def test_long(edge_candidate):
            Path("started").touch()
            time.sleep(60)
        """
    )
    arguments = ("edgeai.toml", "test_long.py", "-k", "accuracy or long", "-v", *processes)
    with start(place, *arguments, "--edge-json=report.json", "--edge-promote=promoted") as process:
        wait_for(process, place, "started", "**/verdicts/accuracy_retained.json")
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does for Ctrl-C
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 2, rest
    assert "edge gates" in rest
    report = json.loads((place.path / "report.json").read_text("utf-8"))
    (candidate,) = report["models"][0]["candidates"]
    assert [gate["name"] for gate in candidate["gates"]] == ["accuracy_retained"]
    assert candidate["promoted"] is False
    assert running_workers(temporary_files) == []


@POSIX
def test_a_killed_run_leaves_no_process_and_the_next_run_works(
    place: Place, temporary_files: Path
) -> None:
    place.write()
    with start(place, "-k", "speedup", "--edge-threshold=speedup=1.0") as process:
        wait_for(process, place, ".edgeai/artifacts/*.partial")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert running_workers(temporary_files) == []
    assert [p for p in temporary_files.glob("pytest-edgeai-*") if p.is_dir()], "as expected"
    run = place.run("-k", "sanity or speedup", own_cache=True)
    assert (run.code, run.outcomes["passed"]) == (0, 2)
    assert not list((place.path / ".edgeai/artifacts").glob("*.partial"))
