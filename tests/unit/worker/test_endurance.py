"""Constant load and bursts in a worker, without the worker: what is counted, and what is left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import RuntimeOptions, TensorSpec
from pytest_edgeai.worker.endurance import GROUP_CALLS, Endurance, timed_groups
from pytest_edgeai.worker.health import health_now, open_descriptors, running_threads
from pytest_edgeai.worker.serving import packed


class Model:
    """Counts its calls, and those of every other."""

    inputs = (TensorSpec("x", "float32", (None, 2)),)
    made = 0
    closed = 0

    def bind(self, feeds: object) -> Callable[[], object]:
        def call() -> None:
            Model.made += 1

        return call

    def close(self) -> None:
        Model.closed += 1


class Framework:
    """Loads models; the third load is refused."""

    def __init__(self, most: int) -> None:
        self._most = most

    def load(self, path: Path, runtime: RuntimeOptions) -> Model:
        self._most -= 1
        if self._most < 0:
            raise MemoryError("no room")
        return Model()


@pytest.mark.parametrize("kept", [1, 4, 5, 6, 60, 61])
def test_groups_hold_what_is_kept(kept: int) -> None:
    groups = timed_groups(kept)
    assert sum(groups) == kept
    assert all(1 <= group <= GROUP_CALLS for group in groups)


def test_all_calls_are_counted_and_some_are_timed() -> None:
    made: list[int] = []
    endurance = Endurance({"m": lambda: made.append(1)}, lambda: Framework(0))
    answer = endurance.endure("m", 0.05, 12)
    assert answer["calls"] == len(made) > 12
    assert len(answer["wall_ns"]) == len(answer["cpu_ns"]) == 12
    assert answer["bytes"] > 0
    assert endurance.endure("m", 0.0, 7)["calls"] == 7


def test_nothing_bound_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="nothing is bound"):
        Endurance({}, lambda: Framework(0)).endure("m", 0.0, 1)


@pytest.mark.parametrize(("loads", "streams"), [(3, 4), (1, 2), (0, 1)])
def test_a_burst_runs_what_can_be_loaded(tmp_path: Path, loads: int, streams: int) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    Model.made = Model.closed = 0
    framework = Framework(loads)
    before = threading.active_count()
    answer = Endurance({"m": Model().bind({})}, lambda: framework).burst(
        "m", "model", {}, {"x": str(tmp_path / "x.npy")}, 0, 1, 4, 0.05
    )
    assert answer["streams"] == streams
    assert answer["calls"] == Model.made > 0
    assert answer["errors"] == (["MemoryError: no room"] if streams < 4 else [])
    assert Model.closed == loads
    assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells both")
def test_files_and_threads_are_counted(tmp_path: Path) -> None:
    files, threads = open_descriptors(), running_threads()
    assert files is not None
    assert threads is not None
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with (tmp_path / "open").open("w"):
        assert open_descriptors() == files + 1
        health = health_now()
        assert (health["descriptors"], health["threads"]) == (files + 1, threads + 1)
    stop.set()
    thread.join()
    assert open_descriptors() == files


def test_an_answer_is_packed_whole() -> None:
    values = np.arange(6, dtype=np.float16).reshape(2, 3)
    answer = packed(values)
    assert (answer["dtype"], answer["shape"]) == ("float16", [2, 3])
    assert packed(values.T.copy())["sha256"] != answer["sha256"]
    assert packed(np.asarray(["a", "b"]))["sha256"] != packed(np.asarray(["ab", ""]))["sha256"]
    assert packed(np.asarray(3.0, np.float32))["shape"] == []
    assert packed(np.zeros((0, 4), np.float32))["values"] == ""
