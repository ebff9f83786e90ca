"""Peak, steady state and mapped weights of planted models, each in a real process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT, Worker, WorkerSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 2**20
SLACK_BYTES = 2 * MIB

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def planted(make_spec: Callable[..., WorkerSpec]) -> Any:
    """The module of the planted models; ``make_spec`` makes it importable."""
    return importlib.import_module("faulty_frameworks")


@pytest.fixture
def measure(make_spec: Callable[..., WorkerSpec], planted: Any, tmp_path: Path) -> Measure:
    """Return a function that measures a planted model in a fresh process."""
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "weights.bin").write_bytes(bytes(planted.FILE_BYTES))
    np.save(tmp_path / "x.npy", np.ones((1, 2), np.float32))

    def run(name: str, path: Path | None = None, **hints: str) -> dict[str, Any]:
        with Worker.start(make_spec(name, **MEMORY_ENVIRONMENT), time_limit_s=30) as worker:
            answer: dict[str, Any] = worker.request(
                "measure_memory",
                time_limit_s=30,
                path=path or weights / "weights.bin",
                runtime={"hints": hints},
                arrays={"x": tmp_path / "x.npy"},
                first=0,
                batch=1,
                calls=3,
            )
        return answer

    return run


def test_peak_and_steady_state_are_told_apart(measure: Measure, planted: Any) -> None:
    found = measure("PeaksAbove")
    kept, peak = planted.KEPT_BYTES, planted.PEAK_BYTES
    assert abs(found["steady_bytes"] - kept) < SLACK_BYTES
    assert abs(found["model_bytes"] - peak - kept) < SLACK_BYTES
    assert found["steady_definition"] == "linux-resident-growth-less-code-pages"
    assert found["definition"] == "linux-peak-growth-less-code-pages"
    assert found["mapped_weights_bytes"] == found["untouched_bytes"] == 0


def test_weights_that_are_mapped_all_the_same_count_as_if_they_were_read(
    measure: Measure, planted: Any
) -> None:
    found = measure("MapsItsWeights")
    whole = planted.FILE_BYTES
    assert found["mapped_weights_bytes"] == whole
    assert found["untouched_bytes"] == whole - planted.TOUCHED_BYTES
    for figure in ("model_bytes", "steady_bytes"):
        assert abs(found[figure] - whole) < SLACK_BYTES


def test_what_is_asked_to_be_mapped_counts_where_it_was_touched(
    measure: Measure, planted: Any
) -> None:
    found = measure("MapsItsWeights", memory_mapping="on")
    touched = planted.TOUCHED_BYTES
    assert found["untouched_bytes"] == 0
    for figure in ("model_bytes", "steady_bytes"):
        assert abs(found[figure] - touched) < SLACK_BYTES


def test_weights_behind_a_link_are_found(measure: Measure, planted: Any, tmp_path: Path) -> None:
    """Hugging Face's cache keeps a model's files elsewhere and links to them."""
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "weights.bin"
    link.symlink_to(tmp_path / "model" / "weights.bin")
    assert measure("MapsItsWeights", link)["mapped_weights_bytes"] == planted.FILE_BYTES
