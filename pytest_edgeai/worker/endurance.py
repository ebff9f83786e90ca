"""Run a model for long, or as hard as it goes, and state what the process holds afterwards."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON, RuntimeOptions, TensorSpec
from pytest_edgeai.worker import arrays as samples_of
from pytest_edgeai.worker.health import health_now
from pytest_edgeai.worker.timing import time_calls

GROUP_CALLS = 5
"""Timed calls that follow each other; the groups are spread over the whole time."""

MOST_ERRORS = 5


class Bound(Protocol):
    """What is needed of a :class:`~pytest_edgeai.optimize.frameworks.base.LoadedModel` here."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Its inputs."""
        ...

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """Return the call of the feeds."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Loads(Protocol):
    """What is needed of a :class:`~pytest_edgeai.optimize.frameworks.base.Framework` here."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Bound:
        """Load a model."""
        ...


class Endurance:
    """Constant load on what a worker has bound, and bursts of parallel load."""

    def __init__(
        self, calls: Mapping[str, Callable[[], object]], framework: Callable[[], Loads]
    ) -> None:
        """Run what is bound in ``calls``, by handle; more is loaded by ``framework``."""
        self._calls = calls
        self._framework = framework
        self.operations: dict[str, Callable[..., JSON]] = {
            "endure": self.endure,
            "burst": self.burst,
        }

    def endure(self, handle: str, seconds: float, kept: int) -> JSON:
        """Call what is bound for ``seconds`` seconds and time ``kept`` calls, spread over them.

        The timed calls are made, however long they take.

        Returns:
            ``{"calls"}``, all of them; ``{"wall_ns", "cpu_ns", "preemptions"}`` of the timed calls,
            as :func:`~pytest_edgeai.worker.timing.time_calls` has them; and what
            :func:`~pytest_edgeai.worker.health.health_now` states after the last call.
        """
        call = self._bound(handle)
        wall_ns: list[int] = []
        cpu_ns: list[int] = []
        preemptions: list[int] | None = []
        calls = 0
        begin = time.perf_counter()
        groups = timed_groups(kept)
        for index, timed in enumerate(groups):
            until = begin + seconds * (index + 1) / len(groups)
            while time.perf_counter() < until:
                call()
                calls += 1
            times = time_calls(call, timed)
            calls += timed
            wall_ns += times.wall_ns
            cpu_ns += times.cpu_ns
            if times.preemptions is None or preemptions is None:
                preemptions = None
            else:
                preemptions += times.preemptions
        gc.collect(1)
        return {
            "calls": calls,
            "wall_ns": wall_ns,
            "cpu_ns": cpu_ns,
            "preemptions": preemptions,
            **health_now(),
        }

    def burst(
        self,
        handle: str,
        path: str,
        runtime: Mapping[str, JSON],
        arrays: Mapping[str, str],
        first: int,
        batch: int | None,
        streams: int,
        seconds: float,
    ) -> JSON:
        """Call what is bound, and ``streams - 1`` further loads of the model, all at once.

        Each stream is a thread with a model of its own, so that nothing is asked of a runtime that
        it does not promise; they are released afterwards. What a further load or call raises is
        stated, and ends its stream alone: to refuse more work is an answer.

        Returns:
            ``{"calls", "streams", "errors"}``: all calls, the streams that ran to the end, and what
            the others raised, one line each.
        """
        call = self._bound(handle)
        options = RuntimeOptions(**runtime)
        opened = samples_of.open_arrays(arrays)
        errors: list[str] = []
        counts = [0] * streams
        ran_to_the_end = [False] * streams
        loading = threading.Lock()
        ready = threading.Barrier(streams)

        def stream(index: int) -> None:
            model: Bound | None = None
            own = call
            try:
                try:
                    if index:
                        with loading:
                            model = self._framework().load(Path(path), options)
                            own = model.bind(samples_of.take(opened, first, batch))
                finally:
                    ready.wait()
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    own()
                    counts[index] += 1
                ran_to_the_end[index] = True
            except Exception as error:
                errors.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            finally:
                if model is not None:
                    model.close()

        threads = [threading.Thread(target=stream, args=(index,)) for index in range(1, streams)]
        for thread in threads:
            thread.start()
        stream(0)
        for thread in threads:
            thread.join()
        gc.collect()
        return {
            "calls": sum(counts),
            "streams": sum(ran_to_the_end),
            "errors": list(dict.fromkeys(errors))[:MOST_ERRORS],
        }

    def _bound(self, handle: str) -> Callable[[], object]:
        call = self._calls.get(handle)
        if call is None:
            raise MeasurementError(f"nothing is bound for {handle!r}")
        return call


def timed_groups(kept: int) -> list[int]:
    """Return the sizes of the groups of ``kept`` timed calls, at most :data:`GROUP_CALLS` each."""
    groups = -(-kept // GROUP_CALLS)
    return [kept * (index + 1) // groups - kept * index // groups for index in range(groups)]
