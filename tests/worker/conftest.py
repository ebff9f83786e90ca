"""What the tests with real processes share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.worker.host import Worker, WorkerSpec

FAULTY = FrameworkDescriptor(
    name="faulty",
    implementation="faulty_frameworks:Faulty",
    install="pip install faulty",
    distributions=("numpy",),
    formats=("onnx",),
    schemes={"convert": "float32"},
)

MakeSpec: TypeAlias = Callable[..., WorkerSpec]


@pytest.fixture
def make_spec(monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    """Return a function that describes a worker of one class of ``faulty_frameworks``."""
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def make(
        name: str = "Faulty",
        *,
        interpreter: Path | None = None,
        distributions: tuple[str, ...] = ("numpy",),
        **environment: str,
    ) -> WorkerSpec:
        descriptor = replace(
            FAULTY, implementation=f"faulty_frameworks:{name}", distributions=distributions
        )
        return WorkerSpec(descriptor, interpreter or Path(sys.executable), environment)

    return make


@pytest.fixture
def worker(make_spec: MakeSpec) -> Iterator[Worker]:
    """A worker of the faulty framework."""
    with Worker.start(make_spec(), time_limit_s=30) as started:
        yield started


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    """Return whether a process exists and is no zombie."""

    def check(pid: int) -> bool:
        import psutil

        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return check


@pytest.fixture
def wait_until_gone(is_running: Callable[[int], bool]) -> Callable[[int], bool]:
    """Return whether a process ended within some seconds."""

    def wait(pid: int) -> bool:
        deadline = time.monotonic() + 20
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not is_running(pid)

    return wait
