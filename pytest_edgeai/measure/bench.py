"""Loaded models in workers: what is asked of them, in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.energy import Spent
from pytest_edgeai.measure.latency import summarize_times, warm_up
from pytest_edgeai.measure.timed import CallTimes, Turns
from pytest_edgeai.records import LatencySummary, RuntimeOptions
from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT, Worker, WorkerSpec

START_LIMIT_S = 120.0
MEMORY_CALLS = 20


_UNKNOWN_CORE = -1
"""Of a worker that could not be put on the core that it was told of."""


@dataclass(frozen=True)
class Runnable:
    """A model file with the framework and the options that run it.

    Attributes:
        framework: the framework.
        interpreter: the Python that has it.
        path: the model file.
        runtime: how it is run.
    """

    framework: FrameworkDescriptor
    interpreter: Path
    path: Path
    runtime: RuntimeOptions


@dataclass(frozen=True)
class Samples:
    """Staged samples and how they become calls.

    Attributes:
        arrays: model input name to ``.npy`` path.
        count: number of samples.
        batching: how many go into one call.
    """

    arrays: Mapping[str, str]
    count: int
    batching: Batching


class LoadedRunnable:
    """A model loaded in a worker of its own, with the first samples bound for timing."""

    def __init__(self, runnable: Runnable, samples: Samples | None, *, time_limit_s: float) -> None:
        """Start the worker, load the model and bind the first samples, where there are any.

        Raises:
            EdgeAIError: the framework is missing, the model is refused, or the worker failed.
        """
        self.runnable = runnable
        self.cpu_time_is_valid = runnable.framework.cpu_time_is_valid
        self._core: int | None = None
        self._next_core: int | None = None
        self._can_be_placed = True
        self._samples = samples
        self._time_limit_s = time_limit_s
        self._worker = Worker.start(
            WorkerSpec(runnable.framework, runnable.interpreter),
            time_limit_s=min(START_LIMIT_S, time_limit_s),
        )
        try:
            self._open()
        except BaseException:
            self._worker.close()
            raise

    def _open(self) -> None:
        self._ask(
            "load", handle="model", path=str(self.runnable.path), runtime=self.runnable.runtime
        )
        if self._samples is not None:
            self._ask(
                "prepare",
                handle="model",
                arrays=self._samples.arrays,
                first=0,
                batch=self._samples.batching.batch,
            )

    def time_calls(self, calls: int) -> CallTimes:
        """Run the bound samples ``calls`` times and return the times of each call."""
        core, self._next_core = self._next_core, None
        answer = self._ask("time_calls", handle="model", core=core, calls=calls)
        self._note_placed(answer)
        return _call_times(answer)

    def listen(self, path: str) -> None:
        """See :class:`~.timed.TakesTurns`."""
        self._ask("listen", path=path)

    def join(self, path: str) -> None:
        """See :class:`~.timed.TakesTurns`."""
        self._ask("join", path=path)

    def order_turns(
        self, calls: Sequence[int], number: int, after: int | None
    ) -> Callable[[], Turns]:
        """See :class:`~.timed.TakesTurns`."""
        core, self._next_core = self._next_core, None
        ordered = self._worker.order(
            "take_turns",
            time_limit_s=self._time_limit_s,
            handle="model",
            core=core,
            calls=calls,
            number=number,
            after=after,
            # Whoever waits says so before both are given up on, so that the other one is told
            # apart.
            limit_s=max(self._time_limit_s - 5.0, 0.8 * self._time_limit_s),
        )

        def taken() -> Turns:
            answer = self._worker.answer(ordered, time_limit_s=self._time_limit_s)
            self._note_placed(answer)
            return Turns([_call_times(turn) for turn in answer["turns"]], bool(answer["placed"]))

        return taken

    def _note_placed(self, answer: Mapping[str, Any]) -> None:
        """Take note of whether timed calls ran on the core that was chosen for them."""
        if not answer["placed"]:
            self._core, self._can_be_placed = _UNKNOWN_CORE, False

    def run_calls(self, calls: int) -> Spent:
        """Run the bound samples ``calls`` times and return what all of them took together."""
        core, self._next_core = self._next_core, None
        if core is not None and not self._ask("run_on", core=core):
            self._core, self._can_be_placed = _UNKNOWN_CORE, False
        answer = self._ask("run_calls", handle="model", calls=calls)
        return Spent(int(answer["wall_ns"]), int(answer["cpu_ns"]))

    def run_on(self, core: int | None) -> bool:
        """Put the worker on one core, ``None`` on all; return whether that was done.

        A model that was given several threads is left to the scheduler. Whatever is not timed in
        turns runs on all cores again. A worker that could be put on a core once is told of the next
        one with the order for its next calls, which saves a round trip for each change; where that
        fails, it is not put on a core again.
        """
        if self.runnable.runtime.threads != 1 or not (self._can_be_placed or core is None):
            return False
        if core == self._core:
            return True
        if core is None or self._core is None:
            self._next_core = None
            self._can_be_placed = bool(self._ask("run_on", core=core))
            self._core = core if self._can_be_placed else None
        else:
            self._core = self._next_core = core
        return self._can_be_placed

    def evaluate(
        self, output: Path, progress: Callable[[str, float], None], samples: Samples | None = None
    ) -> tuple[dict[str, NDArray[Any]], float]:
        """Run all samples; return output name to array (axis 0: samples), and the seconds."""
        samples = samples or self._bound()
        self.run_on(None)
        output.mkdir(parents=True, exist_ok=True)
        answer = self._ask(
            "evaluate",
            on_progress=progress,
            handle="model",
            arrays=samples.arrays,
            samples=samples.count,
            batch=samples.batching.batch,
            output=str(output),
        )
        arrays = {
            name: np.load(path, mmap_mode="r", allow_pickle=False)
            for name, path in answer["outputs"].items()
        }
        return arrays, float(answer["seconds"])

    def latency(self, calls: int) -> LatencySummary:
        """Return the latency of a plain loop over the bound samples, after warm-up."""
        warm_up((self,))
        return summarize_times(
            self.time_calls(calls),
            cpu_time_is_valid=self.cpu_time_is_valid,
            threads=self.runnable.runtime.threads,
            batch=self._bound().batching.samples_per_call,
        )

    def execution(self) -> Mapping[str, Any]:
        """Return what the runtime says it executes."""
        answer: Mapping[str, Any] = self._ask("execution", handle="model")
        return answer

    def profile_calls(self, calls: int) -> Mapping[str, Any]:
        """Time the bound call; see :meth:`pytest_edgeai.worker.profile.Profiling.profile_calls`."""
        answer: Mapping[str, Any] = self._ask("profile_calls", handle="model", calls=calls)
        return answer

    def core_use(self, seconds: float) -> Mapping[str, Any]:
        """Return which cores it runs on; see :meth:`~.worker.profile.Profiling.core_use`."""
        answer: Mapping[str, Any] = self._ask("core_use", handle="model", seconds=seconds)
        return answer

    @property
    def time_limit_s(self) -> float:
        """Longest time of one step of its worker."""
        return self._time_limit_s

    def memory_now(self) -> tuple[str, int]:
        """Return what its process holds: the name of the definition, and bytes."""
        answer = self._ask("memory_now")
        return str(answer["definition"]), int(answer["bytes"])

    @property
    def samples_per_call(self) -> int:
        """Samples that one timed call answers."""
        return self._bound().batching.samples_per_call

    @property
    def alive(self) -> bool:
        """Whether its worker still answers."""
        return self._worker.alive

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _bound(self) -> Samples:
        if self._samples is None:
            raise MeasurementError("no samples were given to run it on")
        return self._samples

    def _ask(
        self,
        operation: str,
        on_progress: Callable[[str, float], None] | None = None,
        within_s: float = math.inf,
        **arguments: Any,
    ) -> Any:
        limit_s = min(self._time_limit_s, within_s)
        return self._worker.request(
            operation, time_limit_s=limit_s, on_progress=on_progress, **arguments
        )


def _call_times(answer: Mapping[str, Any]) -> CallTimes:
    wall_ns, cpu_ns = (np.asarray(answer[name], dtype=np.int64) for name in ("wall_ns", "cpu_ns"))
    preemptions = answer["preemptions"]
    # Windows counts none; contention shows in wall against CPU time there.
    counted = np.zeros_like(wall_ns) if preemptions is None else preemptions
    return CallTimes(wall_ns, cpu_ns, np.asarray(counted, dtype=np.int64))


def close_all(models: Iterable[LoadedRunnable]) -> None:
    """End several workers at once: each takes a tenth of a second to release its model."""
    models = list(models)
    if not models:
        return
    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(LoadedRunnable.close, models))


def measure_memory(
    runnable: Runnable, samples: Samples, *, time_limit_s: float
) -> Mapping[str, Any]:
    """Measure a model's memory in a fresh process, as the worker's service describes it."""
    return measure_in_fresh_process(
        runnable,
        "measure_memory",
        time_limit_s=time_limit_s,
        arrays=samples.arrays,
        first=0,
        batch=samples.batching.batch,
    )


def measure_in_fresh_process(
    runnable: Runnable, operation: str, *, time_limit_s: float, **arguments: Any
) -> Mapping[str, Any]:
    """Return the answer of a worker that measures the memory of one model and does nothing else.

    Args:
        runnable: the model and how it is run.
        operation: the worker's operation; it calls the model :data:`MEMORY_CALLS` times.
        time_limit_s: longest time of the measurement.
        arguments: what the operation takes beside the model.
    """
    spec = WorkerSpec(runnable.framework, runnable.interpreter, MEMORY_ENVIRONMENT)
    with Worker.start(spec, time_limit_s=min(START_LIMIT_S, time_limit_s)) as worker:
        answer: Mapping[str, Any] = worker.request(
            operation,
            time_limit_s=time_limit_s,
            path=str(runnable.path),
            runtime=runnable.runtime,
            calls=MEMORY_CALLS,
            **arguments,
        )
    return answer
