"""OpenVINO's performance counters: what each layer of the compiled graph takes.

``PERF_COUNT`` and ``get_profiling_info``:
https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes.html
The CPU plugin keeps one average over every execution since the graph was compiled, in whole
microseconds (openvino/src/plugins/intel_cpu/src/perf_count.h); others keep the last execution.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pytest_edgeai.optimize.frameworks.base import OperatorProfile
from pytest_edgeai.profile_records import OperatorTime
from pytest_edgeai.records import RuntimeOptions

SOURCE = "OpenVINO's performance counters"
WARM_UP_CALLS = 2
CUT_OFF_NS = 500
"""What whole microseconds cut off a layer's average, on average; their sum is made up for it."""
ELEMENTS: Mapping[str, str] = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i8": "int8",
    "u8": "int8",
    "i4": "int4",
    "u4": "int4",
    "i32": "int32",
    "i64": "int64",
}
_PRECISION = re.compile(r"_((?:b?f|[iu])\d+)$")
_NOTE = {
    True: "averages of all executions, in whole microseconds each",
    False: "times of each execution, in whole microseconds",
}


def with_counters(runtime: RuntimeOptions) -> RuntimeOptions:
    """Return the options with the performance counters switched on."""
    return replace(runtime, hints={**runtime.hints, "PERF_COUNT": "YES"})


@dataclass(frozen=True)
class Layer:
    """What the counters say of one layer.

    Attributes:
        operator: its type.
        precision: what its kernel computes in; empty where its name does not say so.
        time_us: its time.
    """

    operator: str
    precision: str
    time_us: int


class Compiled(Protocol):
    """What is needed of a loaded model here."""

    @property
    def compiled(self) -> Any:
        """The compiled model."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


def profile(
    model: Compiled, device: str, call: Callable[[], object], calls: int
) -> OperatorProfile:
    """Run ``call`` of a model ``calls`` times, read the counters, and release the model."""
    try:
        return _profile(model.compiled, device, call, calls)
    finally:
        model.close()


def _profile(compiled: Any, device: str, call: Callable[[], object], calls: int) -> OperatorProfile:
    averages = device == "CPU"
    for _ in range(WARM_UP_CALLS):
        call()
    before = _read(compiled) if averages else {}
    wall_ns: list[int] = []
    totals = _Totals()
    for _ in range(calls):
        begin = time.perf_counter_ns()
        call()
        wall_ns.append(time.perf_counter_ns() - begin)
        if not averages:
            totals.add(_read(compiled))
    if averages:
        totals = difference(before, _read(compiled), WARM_UP_CALLS, calls)
    operators = totals.operators(calls)
    spent = sum(operator.time_ns for operator in operators)
    if averages:
        spent += len(operators) * calls * CUT_OFF_NS
    return OperatorProfile(
        source=SOURCE,
        operators=operators,
        operator_ns=(spent // calls,) if averages else tuple(totals.each_ns),
        wall_ns=tuple(wall_ns),
        note=_NOTE[averages],
    )


@dataclass
class _Totals:
    """Times of layers, summed up; ``each_ns`` holds the sum of every execution."""

    layers: dict[str, Layer] = field(default_factory=dict)
    each_ns: list[int] = field(default_factory=list)

    def add(self, found: Mapping[str, Layer]) -> None:
        for name, layer in found.items():
            known = self.layers.get(name)
            total = layer.time_us + (known.time_us if known else 0)
            self.layers[name] = replace(layer, time_us=total)
        self.each_ns.append(1000 * sum(layer.time_us for layer in found.values()))

    def operators(self, calls: int) -> tuple[OperatorTime, ...]:
        found = [
            OperatorTime(name, layer.operator, calls, layer.time_us * 1000, layer.precision)
            for name, layer in self.layers.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.time_ns, each.name)))


def difference(
    before: Mapping[str, Layer], after: Mapping[str, Layer], warm_up: int, calls: int
) -> _Totals:
    """Return the times of ``calls`` executions from averages over the warm-up and over all."""
    layers = {}
    for name, layer in after.items():
        earlier = before[name].time_us * warm_up if name in before else 0
        total = max(0, layer.time_us * (warm_up + calls) - earlier)
        layers[name] = replace(layer, time_us=total)
    return _Totals(layers)


def _read(compiled: Any) -> dict[str, Layer]:
    """Return what the counters say; they belong to the graph, which all requests share.

    A layer of less than a microsecond reads as not run; what really does not run has no kernel.
    """
    return {
        info.node_name: Layer(
            info.node_type,
            precision_of(info.exec_type),
            round(info.real_time.total_seconds() * 1e6),
        )
        for info in compiled.create_infer_request().get_profiling_info()
        if is_kernel(info.exec_type)
    }


def is_kernel(name: str) -> bool:
    """Return whether a layer's kernel is one: the ends of a graph and fused layers have none."""
    return bool(name) and not name.lower().startswith(("undef", "unknown"))


def precision_of(kernel: str) -> str:
    """Return what a kernel computes in, by the end of its name: ``brgemm_avx512_I8``."""
    found = _PRECISION.search(kernel.lower())
    return ELEMENTS.get(found[1], found[1]) if found else ""
