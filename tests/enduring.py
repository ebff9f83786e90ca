"""Models of ``enduring_frameworks`` on disk, and how they are run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from enduring_frameworks import Fault

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.digests import digest_files
from pytest_edgeai.errors import WorkerFailure
from pytest_edgeai.measure.bench import Runnable, Samples, close_all
from pytest_edgeai.measure.endurance import ConstantLoad, Trace
from pytest_edgeai.measure.endurance_models import (
    EnduringTensors,
    EnduringText,
    Reading,
    Spike,
    load_enduring,
)
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.records import Artifact, RuntimeOptions
from pytest_edgeai.selfcheck.workload import Workshop

ENDURING = FrameworkDescriptor(
    name="enduring",
    implementation="enduring_frameworks:Enduring",
    install="pip install pytest-edgeai",
    distributions=("numpy",),
    formats=("json",),
    schemes={"convert": "float32"},
)
LIMIT_S = 60.0


class Scripted:
    """A process that leaks 10 bytes a call and opens a file every 100."""

    cpu_time_is_valid = True

    def __init__(self, *, first_bytes: int = 10_000, dies_at: int = 0) -> None:
        self._first_bytes = first_bytes
        self._dies_at = dies_at
        self._calls = 0
        self._turns = 0

    def run_on(self, core: int | None) -> bool:
        return False

    def time_calls(self, calls: int) -> CallTimes:
        times = np.full(calls, 1_000_000, np.int64)
        return CallTimes(times, times.copy(), np.zeros(calls, np.int64))

    def endure(self, seconds: float, kept: int) -> Reading:
        self._turns += 1
        if self._dies_at and self._turns >= self._dies_at:
            raise WorkerFailure("killed by SIGKILL", framework="scripted", step="endure")
        calls = max(kept, round(seconds * 1000))
        self._calls += calls
        held = self._first_bytes + 10 * self._calls
        return Reading(calls, self.time_calls(kept), "scripted", held, 6 + self._calls // 100, 2)

    def spike(self, seconds: float) -> Spike:
        return Spike("a spike", 1, 1, ())


def runnable(path: Path) -> Runnable:
    return Runnable(ENDURING, Path(sys.executable), path, RuntimeOptions())


def samples(folder: Path) -> Samples:
    return Workshop(folder / "data").evaluation().samples


def artifact(fault: Fault, folder: Path) -> Artifact:
    """Write a model and how its spoiled copies behave, as one artifact of two files."""
    folder.mkdir(parents=True)
    path = fault.write(folder / "model.json")
    behavior = folder / "behavior.json"
    behavior.write_text(path.read_text("utf-8").partition("\n")[0], "utf-8")
    files = (path, behavior)
    return Artifact(
        path=path,
        files=files,
        framework="enduring",
        claimed_precision="float32",
        sha256=digest_files(files, folder),
        size_bytes=sum(file.stat().st_size for file in files),
        key="0" * 64,
        from_cache=False,
        seconds=0.0,
        versions={},
    )


@contextmanager
def under_load(
    folder: Path, candidate: Fault, *, length_s: float, baseline: Fault | None = None
) -> Iterator[tuple[ConstantLoad, Trace]]:
    """Load two models for a constant load, and end them afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded: list[EnduringTensors | EnduringText] = []
    try:
        for name, fault in (("baseline", baseline or Fault()), ("candidate", candidate)):
            path = fault.write(folder / f"{name}.json")
            model = load_enduring(
                runnable(path), samples(folder), None, size_bytes=1, time_limit_s=LIMIT_S
            )
            loaded.append(model)
        trace = Trace()
        load = ConstantLoad(
            loaded[0], loaded[1], trace, length_s=length_s, generator=random.Random(0)
        )
        yield load, trace
    finally:
        close_all(loaded)
