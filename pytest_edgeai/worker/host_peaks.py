"""What this host reaches at best in kernels of NumPy: bytes per second, and operations per second.

Bytes after STREAM (McCalpin 1995, https://www.cs.virginia.edu/stream/ref.html): its kernel ``Add``,
``c = a + b``, moves as many bytes per element as ``Triad`` (two reads and one write), and NumPy has
it as one pass, where a triad would be two. As in STREAM, what a cache reads of a line before it is
written is not counted. Models mostly read, so a reduction that only reads is the second kernel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_edgeai.records import JSON

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SLICES = 3


@dataclass(frozen=True)
class _Kernel:
    """A pass over ``moved_bytes`` bytes."""

    run: Callable[[], object]
    moved_bytes: int


def last_cache_bytes(folder: Path = _CACHES) -> int | None:
    """Return the size of the largest cache of the first core; ``None`` where nobody tells."""
    sizes = []
    try:
        for index in folder.glob("index*"):
            text = (index / "size").read_text().strip()
            factor = _UNITS.get(text[-1:], 1)
            sizes.append(int(text.rstrip("KMG")) * factor)
    except (OSError, ValueError):
        return None
    return max(sizes, default=None)


def largest_working_set(cache_bytes: int | None, least: int, most: int) -> int:
    """Return the bytes of three arrays of four times the last cache each, as STREAM asks for.

    "Each array must be at least 4 times the size of the available cache memory"
    (https://www.cs.virginia.edu/stream/FTP/Code/stream.c); ``most`` is never exceeded.
    """
    return min(max(12 * (cache_bytes or 0), least), most)


def bandwidth(
    sizes: Sequence[int], threads: int, seconds: float
) -> Mapping[str, Mapping[int, float]]:
    """Measure bytes per second over working sets of several sizes.

    Args:
        sizes: bytes that all threads together go through again and again.
        threads: each has arrays of its own, ``size / threads`` bytes.
        seconds: how long each kernel is run for each size, in :data:`_SLICES` parts of which the
            best counts.

    Returns:
        ``add`` and ``read``, each size to bytes per second.
    """
    found: dict[str, dict[int, float]] = {"add": {}, "read": {}}
    for size in sizes:
        # Integers: no denormal number makes them slow. Filled, so that every page is there.
        blocks = [np.ones(max(3, size // threads // 4), np.int32) for _ in range(threads)]
        for name, kernel in (("add", _add), ("read", _read)):
            found[name][size] = best_rate([kernel(block) for block in blocks], seconds)
    return found


def product_rate(rows: int, inner: int, seconds: float) -> float:
    """Return the operations per second of a float32 product by NumPy's BLAS, the best of its calls.

    It runs in as many threads as the environment said when NumPy was imported. A
    multiply-accumulate is two operations.
    """
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, inner), np.float32)
    right = rng.standard_normal((inner, inner), np.float32)
    left @ right
    best_s = float("inf")
    until = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < until:
        left @ right
        best_s = min(best_s, time.perf_counter() - begin)
    return 2 * rows * inner * inner / best_s


def best_rate(kernels: Sequence[_Kernel], seconds: float) -> float:
    """Return the most bytes per second that kernels reach together, each in a thread of its own.

    A single one is held against its CPU time: a neighbor that takes the core away lowers no peak.
    """
    for kernel in kernels:
        kernel.run()
    return max(_rate(kernels, seconds / _SLICES) for _ in range(_SLICES))


def _add(block: object) -> _Kernel:
    values = np.asarray(block)
    third = len(values) // 3
    first, second, result = (values[part * third : (part + 1) * third] for part in range(3))
    return _Kernel(lambda: np.add(first, second, out=result), 3 * result.nbytes)


def _read(block: object) -> _Kernel:
    values = np.asarray(block)
    return _Kernel(values.max, values.nbytes)


def _rate(kernels: Sequence[_Kernel], seconds: float) -> float:
    if len(kernels) == 1:
        return _rate_alone(kernels[0], seconds)
    ready = threading.Barrier(len(kernels))
    moved = [0] * len(kernels)
    begins, ends = [0.0] * len(kernels), [0.0] * len(kernels)

    def loop(index: int) -> None:
        kernel = kernels[index]
        ready.wait()
        begins[index] = now = time.perf_counter()
        until = now + seconds
        while now < until:
            kernel.run()
            moved[index] += kernel.moved_bytes
            now = time.perf_counter()
        ends[index] = now

    others = [threading.Thread(target=loop, args=(index,)) for index in range(1, len(kernels))]
    for thread in others:
        thread.start()
    loop(0)
    for thread in others:
        thread.join()
    return sum(moved) / (max(ends) - min(begins))


def _rate_alone(kernel: _Kernel, seconds: float) -> float:
    moved = 0
    begin = now = time.thread_time()
    until = time.perf_counter() + seconds
    while not moved or time.perf_counter() < until:
        kernel.run()
        moved += kernel.moved_bytes
        now = time.thread_time()
    # The clock of a thread may be too coarse to see a short one.
    return moved / max(now - begin, 1e-7)


def as_json(rates: Mapping[str, Mapping[int, float]]) -> JSON:
    """Return what :func:`bandwidth` found with sizes as text, as JSON has its keys."""
    return {
        name: {str(size): rate for size, rate in of_kernel.items()}
        for name, of_kernel in rates.items()
    }
