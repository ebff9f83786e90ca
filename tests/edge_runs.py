"""Pytest, run on small projects in a process of its own as a user would run it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from models import Project, write_project

from pytest_edgeai import shipped

QUICK = """
[gates]
speedup = 0.01
latency_consistency = 1000
latency_tail = 1
latency_drift = 1000
memory_growth = "1 GiB"
memory_cut = false
"""
"""Limits that a working candidate keeps whatever the machine does, without fresh processes."""

CANDIDATE = "onnxruntime-int8-static"
NODE = f"edgeai.toml::linear::{CANDIDATE}"
GATES = tuple(
    gate.name
    for gate in shipped.GATES.values()
    if not (gate.only_with_limit or gate.only_against or gate.production)
    and gate.judges("tabular-classification")
)
"""The gates of an ordinary candidate, in their order."""
PASSING = len(GATES) - 2
"""How many a working candidate passes with `QUICK`: ``memory_cut`` is off, and without a limit
``artifact_size`` does not apply."""


def running_workers(place: Path) -> list[int]:
    """Return the process ids of workers whose temporary files lie below ``place``; Linux only."""
    found: list[int] = []
    if sys.platform != "linux":
        return found
    deadline = time.monotonic() + 5.0
    while True:
        found = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_worker(path, place)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _is_worker(process: Path, place: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
        environment = (process / "environ").read_bytes()
    except OSError:
        return False
    return b"pytest_edgeai/worker/__main__.py" in command and f"={place}/".encode() in environment


@dataclass(frozen=True)
class Run:
    """A finished run of pytest.

    Attributes:
        result: what pytester knows of it.
        text: standard output.
        report: the JSON report; empty where none was written.
    """

    result: pytest.RunResult
    text: str
    report: dict[str, Any]

    @property
    def code(self) -> int:
        """Exit status."""
        return int(self.result.ret)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many tests passed, failed, were skipped …"""
        return self.result.parseoutcomes()

    def candidate(self, index: int = 0) -> dict[str, Any]:
        """Return a candidate of the first model of the JSON report."""
        found: dict[str, Any] = self.report["models"][0]["candidates"][index]
        return found

    def verdicts(self, index: int = 0) -> dict[str, str]:
        """Return gate name to outcome of a candidate."""
        return {gate["name"]: gate["outcome"] for gate in self.candidate(index)["gates"]}


class Place:
    """A user's project in the current directory of ``pytester``."""

    def __init__(self, pytester: pytest.Pytester, linear: Project, cache: Path) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.linear = linear
        self.cache = cache

    def write(self, extra: str = QUICK, models: tuple[Project, ...] = ()) -> Path:
        """Write the manifest for ``models`` (default: the small one) and copy their files."""
        placed = []
        for project in models or (self.linear,):
            files = {}
            for name in ("model", "data", "calibration"):
                source: Path = getattr(project, name)
                files[name] = Path(shutil.copy(source, self.path / source.name))
            placed.append(Project(**{**project.__dict__, **files}))
        return write_project(self.path, placed, extra)

    def run(self, *arguments: str, target: str = "cross", own_cache: bool = False) -> Run:
        """Run pytest with ``--edge-target`` and a JSON report.

        Args:
            arguments: further arguments.
            target: the target; empty for none.
            own_cache: use the project's own cache instead of the one that the tests share.
        """
        report = self.path / "report.json"
        report.unlink(missing_ok=True)
        words = list(arguments)
        if target:
            words += [f"--edge-target={target}", f"--edge-json={report}"]
            if not own_cache:
                words.append(f"--edge-cache-dir={self.cache}")
        result = self.pytester.runpytest_subprocess(*words, timeout=120)
        content = json.loads(report.read_text("utf-8")) if report.exists() else {}
        return Run(result, result.stdout.str(), content)
