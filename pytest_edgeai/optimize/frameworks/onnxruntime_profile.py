"""ONNX Runtime's session profiler: what each operator of the optimized graph takes.

https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_edgeai.assess.roles import is_quantized
from pytest_edgeai.optimize.frameworks.base import OperatorProfile
from pytest_edgeai.profile_records import OperatorTime

SOURCE = "ONNX Runtime's session profiler"
WARM_UP_CALLS = 2
BYTES = "operator_bytes"
"""Counter: weights and activations that the operators of a call read and write, as traced."""

_KERNEL = "_kernel_time"
_RUN = "model_run"
_NOTE = "wall times of the kernels, in whole microseconds each"
_ELEMENTS = {"float": "float32", "double": "float64"}


@dataclass
class _Total:
    operator: str
    precision: str
    calls: int = 0
    time_ns: int = 0


def read_trace(path: Path) -> OperatorProfile:
    """Return what a trace file says of all calls but the first :data:`WARM_UP_CALLS`."""
    with path.open(encoding="utf-8") as lines:
        return profile_of(events_of(lines))


def events_of(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a trace, which stand in a JSON list with one in each line.

    Read line by line: a trace has about a kilobyte for every operator of every call.
    """
    for line in lines:
        text = line.strip().strip("[],").strip()
        if text:
            yield json.loads(text)


def profile_of(events: Iterable[Mapping[str, Any]]) -> OperatorProfile:
    """Return what the events of a trace say, in Chrome's format as ONNX Runtime writes it.

    Args:
        events: in the order of the file: the operators of a run stand before the run. Times are
            microseconds.
    """
    totals: dict[str, _Total] = {}
    operator_ns: list[int] = []
    wall_ns: list[int] = []
    moved_bytes = runs = 0
    pending: list[Mapping[str, Any]] = []
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            pending.append(event)
        elif name == _RUN:
            runs += 1
            if runs > WARM_UP_CALLS:
                wall_ns.append(int(event["dur"]) * 1000)
                operator_ns.append(_add_call(totals, pending))
                moved_bytes += sum(map(_bytes_of, pending))
            pending = []
    operators = [
        OperatorTime(name, total.operator, total.calls, total.time_ns, total.precision)
        for name, total in totals.items()
    ]
    return OperatorProfile(
        source=SOURCE,
        operators=tuple(sorted(operators, key=lambda each: (-each.time_ns, each.name))),
        operator_ns=tuple(operator_ns),
        wall_ns=tuple(wall_ns),
        counters={BYTES: moved_bytes / len(wall_ns)} if moved_bytes else {},
        note=_NOTE,
    )


def _add_call(totals: dict[str, _Total], nodes: Iterable[Mapping[str, Any]]) -> int:
    """Add the operators of one call; return the time in all of them."""
    spent_ns = 0
    for event, own_us in _own_times(nodes):
        arguments = event.get("args", {})
        operator = str(arguments.get("op_name", ""))
        name = str(event["name"]).removesuffix(_KERNEL)
        total = totals.setdefault(name, _Total(operator, _precision(operator, arguments)))
        total.calls += 1
        total.time_ns += own_us * 1000
        spent_ns += own_us * 1000
    return spent_ns


def _bytes_of(event: Mapping[str, Any]) -> int:
    arguments = event.get("args", {})
    sizes = ("parameter_size", "activation_size", "output_size")
    return sum(int(arguments.get(size, 0) or 0) for size in sizes)


def _own_times(
    nodes: Iterable[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], int]]:
    """Return each operator with its time less that of operators that ran inside of it, in µs.

    The body of a loop or of a condition is traced beside the operator that runs it, in its time.
    """
    # A longer one that begins at the same time is the outer one.
    ordered = sorted(nodes, key=lambda event: (int(event["ts"]), -int(event["dur"])))
    inside: defaultdict[int, int] = defaultdict(int)
    open_until: list[tuple[int, int]] = []
    for index, event in enumerate(ordered):
        begin, end = int(event["ts"]), int(event["ts"]) + int(event["dur"])
        while open_until and (open_until[-1][0] < end or open_until[-1][0] <= begin):
            open_until.pop()
        if open_until and _has_body(ordered[open_until[-1][1]]):
            inside[open_until[-1][1]] += int(event["dur"])
        open_until.append((end, index))
    return [
        (event, max(0, int(event["dur"]) - inside[index])) for index, event in enumerate(ordered)
    ]


def _has_body(event: Mapping[str, Any]) -> bool:
    return event.get("args", {}).get("op_name") in ("If", "Loop", "Scan", "BeamSearch")


def _precision(operator: str, arguments: Mapping[str, Any]) -> str:
    """Return what an operator computes in: by its type, and else by its first input."""
    if is_quantized(operator):
        return "int4" if operator.endswith("NBits") else "int8"
    for shapes in (arguments.get("input_type_shape"), arguments.get("output_type_shape")):
        if shapes:
            element = next(iter(shapes[0]), "")
            return _ELEMENTS.get(element, element)
    return ""
