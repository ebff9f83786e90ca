"""What goes wrong beside the user: full disks, rivals in one cache, kill -9 in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import CANDIDATE, NODE, QUICK, Place, running_workers

GATE = f"{NODE}::output_sanity"
linux_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")


def start(place: Place, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start pytest in the project, with its own cache."""
    words = ["-p", "no:cacheprovider", "--edge-target=cross", *arguments]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pytest", *words],
        cwd=place.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )


def finish(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return text


def entries(place: Place) -> list[Path]:
    """Return the artifacts' entries; there may be nothing else but their directories and locks."""
    artifacts = place.path / ".edgeai" / "artifacts"
    found = sorted(artifacts.glob("*.json"))
    directories = {json.loads(path.read_text())["directory"] for path in found}
    left = {path.name for path in artifacts.iterdir() if path.is_dir()}
    assert left == directories
    return found


def check_evidence(place: Place) -> None:
    """Every file of the evidence must be whole."""
    for path in (place.path / ".edgeai" / "evidence").rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".npz":
            with np.load(path) as archive:
                assert archive.files


@contextmanager
def killed_at(place: Place, step: str, *arguments: str) -> Iterator[None]:
    """Start pytest and kill it with SIGKILL as soon as its progress says ``step``."""
    process = start(place, *arguments)
    try:
        assert process.stdout is not None
        assert any(step in line for line in process.stdout), f"it never said {step!r}"
        process.send_signal(signal.SIGKILL)
        yield
    finally:
        process.kill()
        process.communicate()


@linux_only
@pytest.mark.parametrize("step", ["quantizing", "timing in turns"])
def test_kill_9_in_the_middle(place: Place, temporary_files: Path, step: str) -> None:
    place.write()
    chosen = [f"{NODE}::speedup"]
    with killed_at(place, step, *chosen):
        assert running_workers(temporary_files) == [], "workers outlived their session"
    check_evidence(place)
    second = start(place, *chosen)
    text = finish(second)
    assert second.returncode == 0, text
    check_evidence(place)
    assert entries(place)


def test_two_runs_in_the_same_cache_at_once(place: Place) -> None:
    place.write()
    pair = [start(place, GATE, f"--edge-json=report{number}.json") for number in range(2)]
    for process in pair:
        assert finish(process)
    assert [process.returncode for process in pair] == [0, 0]
    reports = [json.loads((place.path / f"report{n}.json").read_text()) for n in range(2)]
    artifacts = [report["models"][0]["candidates"][0]["artifact"] for report in reports]
    assert artifacts[0]["sha256"] == artifacts[1]["sha256"]
    assert sorted(artifact["from_cache"] for artifact in artifacts) == [False, True]
    assert len(entries(place)) == 1


def limit_files(size_bytes: int) -> Any:
    """Return what makes every write beyond ``size_bytes`` of a file fail, as a full disk does."""

    def apply() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return apply


def shorten(path: Path, samples: int) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name][:samples] for name in archive.files}
    np.savez(path, **arrays)


@linux_only
def test_no_space_for_the_samples(place: Place) -> None:
    place.write()
    process = start(place, GATE, preexec_fn=limit_files(4096))
    text = finish(process)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    assert "cannot be written: No space left on device" in line


@linux_only
def test_no_space_for_the_artifact(place: Place) -> None:
    place.write()
    for name in ("data", "calibration"):
        shorten(place.path / getattr(place.linear, name).name, 50)
    process = start(place, GATE, preexec_fn=limit_files(4096))
    text = finish(process)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"FAILED {GATE}" in text
    assert entries(place) == []
    again = start(place, GATE)
    text = finish(again)
    assert again.returncode == 0, text
    assert CANDIDATE in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_space_for_the_report(place: Place) -> None:
    place.write(QUICK)
    process = start(place, GATE, "--edge-json=/dev/full", "--edge-markdown=report.md")
    text = finish(process)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: /dev/full: cannot be written: No space left on device" in text
    assert (place.path / "report.md").exists()
    assert Path("/dev/full").is_char_device()
