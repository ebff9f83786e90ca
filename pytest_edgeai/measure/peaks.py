"""What this host reaches at best: the roofs of the roofline, measured with the runtimes there are.

Williams, Waterman and Patterson 2009 (https://doi.org/10.1145/1498765.1498785). A roof is what some
kernel really reached in this session, with as many threads as the models have: the products run in
the runtimes' own kernels, so that a model is held against what its runtime can do.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import EdgeAIError, MeasurementError, UserError
from pytest_edgeai.measure.bench import START_LIMIT_S
from pytest_edgeai.measure.onnx_writer import write_model
from pytest_edgeai.profile_records import HostPeaks, RuntimeCost
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec

BLAS_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Variables that BLAS libraries read their number of threads from when they are loaded."""

ROWS, INNER = 384, 1536
"""A product of ``(ROWS, INNER)`` and ``(INNER, INNER)``: 1.8 GFLOP, 10 to 50 ms on one core, of
which quantizing the input and scaling the output take a few percent."""

PRODUCT_S = 0.2
"""Time of each product, after the first call."""

CHAINS = (8, 72)
"""Operators of the two chains whose difference is what an operator costs."""

TINY = 4
"""Elements that each of them computes on."""

CHAIN_CALLS = 100
BANDWIDTH_S = 0.06
SIZES = tuple(1 << exponent for exponent in (18, 20, 22, 24, 26))
"""Working sets from 256 KiB, where the call of a kernel no longer counts, to 64 MiB."""

MOST_SHARE = 8
MOST_BYTES = 1 << 30
"""The largest working set takes an eighth of the memory at most, and a gibibyte."""

_SCALE = 0.05


@dataclass(frozen=True)
class Runtime:
    """A framework that can be asked for its peaks.

    Attributes:
        framework: its descriptor.
        interpreter: the Python that has it.
        runs_onnx: whether it runs ONNX models of tensors.
    """

    framework: FrameworkDescriptor
    interpreter: Path
    runs_onnx: bool


@dataclass(frozen=True)
class Reached:
    """What one runtime reached; ``None`` for what it did not run."""

    name: str
    float32: float
    int8: float | None
    cost: RuntimeCost | None
    calls: int


def measure_peaks(
    runtimes: Sequence[Runtime],
    *,
    threads: int,
    folder: Path,
    memory_bytes: int | None,
    time_limit_s: float,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> HostPeaks:
    """Measure what this host reaches; the best of all runtimes counts.

    Args:
        runtimes: at least one; those that do not run ONNX models leave the products to NumPy.
        threads: threads of each; 0 leaves them to the runtime, and takes all cores for the bytes.
        folder: for the models.
        memory_bytes: the host's memory; ``None`` where it is not known.
        time_limit_s: longest time of one step.
        progress: called with what is being measured.
        note: called with what could not be measured.

    Raises:
        MeasurementError: no float32 product could be run, or no bandwidth measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    most = MOST_BYTES if memory_bytes is None else min(MOST_BYTES, memory_bytes // MOST_SHARE)

    def moved(worker: Worker) -> Mapping[str, Any]:
        progress("measuring the bytes per second of this host")
        answer: Mapping[str, Any] = worker.request(
            "bandwidth",
            time_limit_s=time_limit_s,
            sizes=SIZES,
            threads=threads,
            seconds=BANDWIDTH_S,
            most_bytes=most,
        )
        return answer

    reached: list[Reached] = []
    answer: Mapping[str, Any] | None = None
    for runtime in runtimes:
        if reached and not runtime.runs_onnx:
            break
        name = runtime.framework.name
        progress(f"measuring the peaks of {name} on this host")
        environment = {} if runtime.runs_onnx else blas_environment(threads)
        spec = WorkerSpec(runtime.framework, runtime.interpreter, environment)
        try:
            with Worker.start(spec, time_limit_s=min(START_LIMIT_S, time_limit_s)) as worker:
                if runtime.runs_onnx:
                    reached.append(_reached(worker, runtime, threads, folder, time_limit_s))
                else:
                    reached.append(_numpy_product(worker, time_limit_s))
                answer = answer or moved(worker)
        except EdgeAIError as error:
            note(f"the peaks of {name} were not measured: {error}")
    if not reached or answer is None:
        raise MeasurementError("the peaks of this host could not be measured")
    return combine(reached, answer)


def blas_environment(threads: int) -> dict[str, str]:
    """Return what limits NumPy's BLAS to some threads; 0 leaves it its own choice."""
    return dict.fromkeys(BLAS_THREADS, str(threads)) if threads else {}


def combine(reached: Sequence[Reached], answer: Mapping[str, Any]) -> HostPeaks:
    """Return the peaks: the best of the runtimes, and the better kernel at every size.

    Args:
        reached: what each runtime reached, at least one.
        answer: of the worker's operation ``bandwidth``.
    """
    by_size = {
        int(size): max(answer["add"][size], answer["read"][size])
        for size in sorted(answer["add"], key=int)
    }
    best = max(reached, key=lambda each: each.float32)
    integers = [each for each in reached if each.int8 is not None]
    largest = int(answer["largest"])
    cache_bytes = answer["cache_bytes"]
    threads = int(answer["threads"])
    with_threads = "with 1 thread" if threads == 1 else f"with {threads} threads"
    method = [
        f"float32: a product of {ROWS} x {INNER} and {INNER} x {INNER} in {best.name} "
        f"{with_threads}, the best of {best.calls} calls; a multiply-accumulate is two operations",
    ]
    if threads == 1:
        method.append("times are at most the CPU time, so that a busy neighbor lowers no peak")
    fastest: Reached | None = None
    if integers:
        fastest = max(integers, key=lambda each: each.int8 or 0.0)
        method.append(
            f"int8: the same product of quantized matrices in {fastest.name}, quantizing the input "
            "and scaling the output included"
        )
    if cache_bytes is None:
        caches = "the size of the caches is not known"
    elif largest >= 12 * cache_bytes:
        caches = f"each at least 4 times the last cache ({_mebibytes(cache_bytes)})"
    else:
        caches = f"which the last cache ({_mebibytes(cache_bytes)}) may hold a part of"
    method.append(
        "bytes: STREAM's Add (c = a + b, 12 bytes per element) and a reading pass in NumPy over "
        f"arrays of {_mebibytes(largest)} together, {caches}; the better of both"
    )
    costs = {each.name: each.cost for each in reached if each.cost is not None}
    if costs:
        method.append(
            f"costs of a runtime: chains of {CHAINS[0]} and of {CHAINS[1]} Softmax operators on "
            f"{TINY} elements; their difference per operator, and what is left of a call"
        )
    return HostPeaks(
        threads=threads,
        float32_flops_per_s=best.float32,
        int8_operations_per_s=fastest.int8 if fastest else None,
        bytes_per_s=by_size[largest],
        method=tuple(method),
        bytes_per_s_by_size=by_size,
        runtime_costs=costs,
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.3g} MiB"


def _numpy_product(worker: Worker, time_limit_s: float) -> Reached:
    answer = worker.request(
        "product_rate", time_limit_s=time_limit_s, rows=ROWS, inner=INNER, seconds=PRODUCT_S
    )
    rate = float(answer["flops_per_s"])
    calls = max(1, math.floor(PRODUCT_S * rate / (2 * ROWS * INNER**2)))
    return Reached("NumPy", rate, None, None, calls)


def _reached(
    worker: Worker, runtime: Runtime, threads: int, folder: Path, time_limit_s: float
) -> Reached:
    options = RuntimeOptions(threads, runtime.framework.device)
    asked = _Asked(worker, options, folder, time_limit_s)
    operations = 2.0 * ROWS * INNER * INNER
    plain_ns = asked.product_ns("product-float32.onnx", quantized=False)
    int8: float | None = None
    with contextlib.suppress(UserError):
        # A runtime that takes no quantized model has no such peak.
        int8 = operations / min(asked.product_ns("product-int8.onnx", quantized=True)) * 1e9
    cost = chain_cost([asked.chain_ns(length) for length in CHAINS])
    name = runtime.framework.name
    return Reached(name, operations / min(plain_ns) * 1e9, int8, cost, len(plain_ns))


def chain_cost(medians_ns: Sequence[float]) -> RuntimeCost:
    """Return what a runtime spends on an operator and on a call, from its two :data:`CHAINS`."""
    short, long = medians_ns
    operator_ns = max(0.0, (long - short) / (CHAINS[1] - CHAINS[0]))
    return RuntimeCost(call_ns=max(0.0, short - CHAINS[0] * operator_ns), operator_ns=operator_ns)


@dataclass(frozen=True)
class _Asked:
    """A worker that is asked to run small models."""

    worker: Worker
    runtime: RuntimeOptions
    folder: Path
    time_limit_s: float

    def product_ns(self, name: str, *, quantized: bool) -> list[int]:
        """Return the times of a product."""
        path = self.folder / name
        if not path.exists():
            write_product(path, quantized=quantized)
        self._load(path, ROWS, INNER)
        first = self._times(2)[-1]
        times = self._times(max(3, min(200, math.ceil(PRODUCT_S * 1e9 / max(1, first)))))
        self._request("unload")
        return times

    def chain_ns(self, length: int) -> float:
        """Return the median time of a chain."""
        path = self.folder / f"chain-{length}.onnx"
        if not path.exists():
            write_chain(path, length)
        self._load(path, 1, TINY)
        self._times(CHAIN_CALLS // 4)
        times = self._times(CHAIN_CALLS)
        self._request("unload")
        return statistics.median(times)

    def _load(self, path: Path, rows: int, columns: int) -> None:
        arrays = self.folder / f"input-{rows}-{columns}.npy"
        if not arrays.exists():
            values = np.random.default_rng(1).normal(size=(rows, columns))
            np.save(arrays, values.astype(np.float32))
        self._request("load", path=str(path), runtime=self.runtime)
        self._request("prepare", arrays={"x": str(arrays)}, first=0, batch=rows)

    def _times(self, calls: int) -> list[int]:
        """Return the time of each call that its own work took.

        With one thread that is at most its CPU time: a neighbor that takes the core away lowers no
        peak. Several threads wait for each other, and only the wall knows.
        """
        answer = self._request("time_calls", calls=calls)
        if self.runtime.threads != 1:
            return [int(each) for each in answer["wall_ns"]]
        return [min(pair) for pair in zip(answer["wall_ns"], answer["cpu_ns"], strict=True)]

    def _request(self, operation: str, **arguments: Any) -> Any:
        return self.worker.request(
            operation, time_limit_s=self.time_limit_s, handle="peak", **arguments
        )


def write_product(path: Path, *, quantized: bool, rows: int = ROWS, inner: int = INNER) -> Path:
    """Write a model of one product of matrices, in float32 or of 8-bit operands (QDQ)."""
    rng = np.random.default_rng(0)
    if not quantized:
        weight = rng.standard_normal((inner, inner), np.float32)
        nodes = [("MatMul", ("x", "w"), "y")]
        return write_model(path, nodes, {"w": weight}, features=inner, classes=inner, rows=rows)
    weights: dict[str, NDArray[Any]] = {
        "w": rng.integers(-127, 128, size=(inner, inner)).astype(np.int8),
        "scale": np.asarray(_SCALE, np.float32),
        "middle": np.asarray(128, np.uint8),
        "zero": np.asarray(0, np.int8),
    }
    steps = [
        ("QuantizeLinear", ("x", "scale", "middle"), "quantized"),
        ("DequantizeLinear", ("quantized", "scale", "middle"), "left"),
        ("DequantizeLinear", ("w", "scale", "zero"), "right"),
        ("MatMul", ("left", "right"), "y"),
    ]
    return write_model(path, steps, weights, features=inner, classes=inner, rows=rows)


def write_chain(path: Path, length: int) -> Path:
    """Write a model of ``length`` Softmax operators in a row, which no runtime fuses."""
    names = ["x", *(f"x{index}" for index in range(1, length)), "y"]
    nodes = [("Softmax", (names[index],), names[index + 1]) for index in range(length)]
    return write_model(path, nodes, {}, features=TINY, classes=TINY)


def require_runtime(runtimes: Sequence[Runtime]) -> None:
    """Make sure that there is something to measure with.

    Raises:
        MeasurementError: there is no runtime that computes on the CPU.
    """
    if not runtimes:
        raise MeasurementError("no framework computes on the CPU, whose peaks are measured")
