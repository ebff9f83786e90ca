"""What a trace of ONNX Runtime says, from events as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_edgeai.optimize.frameworks.onnxruntime_profile import (
    BYTES,
    WARM_UP_CALLS,
    events_of,
    profile_of,
    read_trace,
)

Event = dict[str, Any]


def node(name: str, operator: str, begin: int, spent: int, **arguments: Any) -> Event:
    """Return the event of one operator."""
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": begin,
        "dur": spent,
        "args": {"op_name": operator, **arguments},
    }


def run(begin: int, spent: int) -> Event:
    """Return the event of one run."""
    return {"cat": "Session", "name": "model_run", "ts": begin, "dur": spent, "args": {}}


def calls(*events: Event, count: int = 1, spent: int = 100) -> list[Event]:
    """Return a trace of warm-up calls, slow ones, and ``count`` calls of the same events."""
    trace: list[Event] = [{"cat": "Session", "name": "session_initialization", "dur": 9, "ts": 0}]
    for index in range(WARM_UP_CALLS + count):
        slow = 10 if index < WARM_UP_CALLS else 1
        trace += [{**event, "dur": event["dur"] * slow} for event in events]
        trace.append(run(0, spent * slow))
    return trace


def test_operators_are_added_up_over_the_calls_after_the_warm_up() -> None:
    found = profile_of(calls(node("a", "Conv", 0, 40), node("b", "Relu", 50, 5), count=3))
    assert [(each.name, each.calls, each.time_ns) for each in found.operators] == [
        ("a", 3, 120_000),
        ("b", 3, 15_000),
    ]
    assert found.operator_ns == (45_000,) * 3
    assert found.wall_ns == (100_000,) * 3


def test_the_body_of_a_loop_is_not_counted_twice() -> None:
    inside = [node("inner", "MatMul", 10, 20), node("inner", "MatMul", 35, 20)]
    found = profile_of(calls(*inside, node("loop", "Loop", 5, 60), node("end", "Add", 70, 10)))
    times = {each.name: each.time_ns for each in found.operators}
    assert times == {"inner": 40_000, "loop": 20_000, "end": 10_000}
    assert found.operator_ns == (70_000,)


def test_rounded_times_of_neighbors_are_no_body() -> None:
    found = profile_of(calls(node("a", "Conv", 0, 10), node("b", "Relu", 9, 1)))
    assert found.operator_ns == (11_000,)


def test_precisions_are_told_by_operator_and_by_input() -> None:
    floats: Any = [{"float": [1, 4]}]
    found = profile_of(
        calls(
            node("q", "QLinearConv", 0, 9, input_type_shape=[{"uint8": [1]}]),
            node("n", "MatMulNBits", 10, 8, input_type_shape=floats),
            node("f", "Conv", 20, 7, input_type_shape=floats),
            node("h", "Cast", 30, 6, input_type_shape=[], output_type_shape=[{"float16": [1]}]),
            node("u", "Odd", 40, 5),
        )
    )
    told = {each.name: each.precision for each in found.operators}
    assert told == {"q": "int8", "n": "int4", "f": "float32", "h": "float16", "u": ""}


def test_bytes_are_those_of_one_call() -> None:
    sizes = {"parameter_size": "100", "activation_size": "20", "output_size": "3"}
    found = profile_of(calls(node("a", "Conv", 0, 40, **sizes), count=4))
    assert found.counters == {BYTES: 123}


def test_a_trace_is_read_line_by_line() -> None:
    events = calls(node("a [b], c", "Conv", 0, 40))
    lines = ["[\n", *(f"{json.dumps(event)},\n" for event in events[:-1])]
    lines += [f"{json.dumps(events[-1])}\n", "]\n"]
    assert list(events_of(lines)) == events


def test_a_trace_without_calls_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(f"[\n{json.dumps(run(0, 5))}\n]\n")
    found = read_trace(path)
    assert (found.operators, found.operator_ns, found.wall_ns) == ((), (), ())
    assert found.counters == {}
