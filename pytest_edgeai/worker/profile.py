"""Look into what a worker has bound: what its calls cost the process, and the runtime's profiler.

Nothing here runs while a gate measures: the profiler is switched on in a load of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON, RuntimeOptions, to_json
from pytest_edgeai.worker import arrays as samples_of
from pytest_edgeai.worker.core_use import (
    NO_CORES,
    SOURCE,
    HostTicks,
    Thread,
    host_ticks,
    look,
    use_of,
)
from pytest_edgeai.worker.host_peaks import (
    as_json,
    bandwidth,
    largest_working_set,
    last_cache_bytes,
    product_rate,
)
from pytest_edgeai.worker.placement import allowed_cores
from pytest_edgeai.worker.timing import time_calls

if sys.platform != "win32":
    from resource import RUSAGE_SELF, getrusage

NO_PROFILER = "its runtime offers no profiler"
_USAGE = {
    "minor_faults": "ru_minflt",
    "major_faults": "ru_majflt",
    "voluntary_switches": "ru_nvcsw",
    "involuntary_switches": "ru_nivcsw",
}


class Profiling:
    """Operations that look into the calls of a worker."""

    def __init__(self, calls: Mapping[str, Callable[[], object]], framework: object) -> None:
        """Look into what is bound in ``calls``, by handle, and ask ``framework`` for a profile."""
        self._calls = calls
        self._framework = framework
        self._cores = allowed_cores() or frozenset(range(os.cpu_count() or 1))
        self.operations: dict[str, Callable[..., JSON]] = {
            "profile_calls": self.profile_calls,
            "core_use": self.core_use,
            "profile_operators": self.profile_operators,
            "profile_decoding": self.profile_decoding,
            "bandwidth": self.bandwidth,
            "product_rate": self.product_rate,
        }

    def profile_calls(self, handle: str, calls: int) -> JSON:
        """Time ``calls`` calls, and state what they cost this process all together.

        The counters are read before the first and after the last call, never between them.

        Returns:
            ``{"wall_ns", "cpu_ns"}`` of each call; of all of them together ``"seconds"``,
            ``"cpu_seconds"``, ``"usage"`` (counter to its growth, empty where there are none),
            ``"waited_ns"`` and ``"host"``, the ticks of :class:`~.core_use.HostTicks`; the last two
            ``None`` where the system does not tell.
        """
        call = self._bound(handle)
        threads, host, usage = look(), host_ticks(self._cores), _usage()
        cpu_begin, begin = time.process_time(), time.perf_counter()
        timed = time_calls(call, calls)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        usage_after, host_after, threads_after = _usage(), host_ticks(self._cores), look()
        return {
            "wall_ns": timed.wall_ns,
            "cpu_ns": timed.cpu_ns,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "usage": {name: usage_after[name] - count for name, count in usage.items()},
            "waited_ns": waited_between(threads, threads_after),
            "host": ticks_between(host, host_after),
        }

    def core_use(self, handle: str, seconds: float) -> JSON:
        """Call what is bound for ``seconds`` and state which cores that ran on.

        Returns:
            ``{"wall_ns", "ran_ns": {core: ns}, "moved_ns", "cores", "source"}``: how many cores it
            may run on, and how the figures were found. The first three are ``None`` where the
            system does not tell.
        """
        use = use_of(self._bound(handle), seconds)
        if use is None:
            nothing = dict.fromkeys(("wall_ns", "ran_ns", "moved_ns"))
            return {**nothing, "cores": len(self._cores), "source": NO_CORES}
        return {
            "wall_ns": use.wall_ns,
            "ran_ns": {str(core): use.ran_ns.get(core, 0) for core in sorted(self._cores)},
            "moved_ns": use.moved_ns,
            "cores": len(self._cores),
            "source": SOURCE,
        }

    def profile_operators(
        self,
        path: str,
        runtime: Mapping[str, JSON],
        arrays: Mapping[str, str],
        first: int,
        batch: int | None,
        calls: int,
    ) -> JSON:
        """Return what the runtime's profiler says of a model of tensors.

        Returns:
            The fields of :class:`~pytest_edgeai.optimize.frameworks.base.OperatorProfile`, with an
            empty ``source`` and the reason in ``note`` where the framework offers no profiler.
        """
        if not hasattr(self._framework, "profile"):
            return _nothing()
        feeds = samples_of.take(samples_of.open_arrays(arrays), first, batch)
        profile = cast("Any", self._framework).profile
        return to_json(profile(Path(path), RuntimeOptions(**runtime), feeds, calls))

    def profile_decoding(
        self,
        path: str,
        runtime: Mapping[str, JSON],
        context_tokens: int,
        ids: str,
        block: int,
        tokens: int,
        calls: int,
    ) -> JSON:
        """Return what the runtime's profiler says of decoding one token; likewise."""
        if not hasattr(self._framework, "profile_language_model"):
            return _nothing()
        chosen = np.array(np.load(ids, mmap_mode="r", allow_pickle=False)[block, :tokens])
        profile = cast("Any", self._framework).profile_language_model
        options = RuntimeOptions(**runtime)
        return to_json(profile(Path(path), options, context_tokens, chosen, calls))

    def bandwidth(
        self, sizes: Sequence[int], threads: int, seconds: float, most_bytes: int
    ) -> JSON:
        """Measure the bytes per second of this host.

        Args:
            sizes: bytes of the working sets that fit into caches or may do so.
            threads: 0 for all cores.
            seconds: for each kernel and size.
            most_bytes: most memory that the largest working set, which fits into no cache, takes.

        Returns:
            ``{"add", "read"}``, each bytes to bytes per second; ``"largest"``, the bytes of the
            largest working set; ``"cache_bytes"``, the last cache or ``None``; and ``"threads"``.
        """
        count = threads or len(self._cores)
        cache_bytes = last_cache_bytes()
        largest = largest_working_set(cache_bytes, max(sizes), most_bytes)
        rates = bandwidth([*(s for s in sizes if s < largest), largest], count, seconds)
        facts = {"largest": largest, "cache_bytes": cache_bytes, "threads": count}
        return {**as_json(rates), **facts}

    def product_rate(self, rows: int, inner: int, seconds: float) -> JSON:
        """Return the operations per second of a product by NumPy's BLAS, as the worker has it."""
        return {"flops_per_s": product_rate(rows, inner, seconds)}

    def _bound(self, handle: str) -> Callable[[], object]:
        call = self._calls.get(handle)
        if call is None:
            raise MeasurementError(f"nothing is bound for {handle!r}")
        return call


def waited_between(
    before: Mapping[int, Thread] | None, after: Mapping[int, Thread] | None
) -> int | None:
    """Return how long threads waited for a core between two looks, in ns, over all of them."""
    if before is None or after is None:
        return None
    return sum(
        thread.waited_ns - (before[number].waited_ns if number in before else 0)
        for number, thread in after.items()
    )


def ticks_between(before: HostTicks | None, after: HostTicks | None) -> JSON:
    """Return what the cores did between two looks, ``{"total", "busy", "steal"}`` in ticks."""
    if before is None or after is None:
        return None
    return {name: count - vars(before)[name] for name, count in vars(after).items()}


def _usage() -> dict[str, int]:
    if sys.platform == "win32":
        return {}
    usage = getrusage(RUSAGE_SELF)
    return {name: int(getattr(usage, counter)) for name, counter in _USAGE.items()}


def _nothing() -> JSON:
    return {
        "source": "",
        "operators": [],
        "operator_ns": [],
        "wall_ns": [],
        "counters": {},
        "note": NO_PROFILER,
    }
