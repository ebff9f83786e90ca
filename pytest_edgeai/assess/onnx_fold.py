"""The numbers that shapes are computed from inside an ONNX graph.

Exporters write the arithmetic of dynamic shapes as operators over small integer tensors. Only
scalars and vectors are computed; every other value is left unknown.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from pytest_edgeai.assess.onnx_call import Call, Shape
from pytest_edgeai.assess.onnx_values import MOST_ELEMENTS, Number

_LARGEST = 1 << 63
_INTEGER_TYPES = (6, 7)


def _divide(a: Number, b: Number) -> Number:
    # ONNX divides integers toward zero, as C does.
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a / b


_BINARY: Mapping[str, Callable[[Number, Number], Number]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _divide,
    "Max": max,
    "Min": min,
    "Equal": operator.eq,
    "Greater": operator.gt,
    "Less": operator.lt,
}
_UNARY: Mapping[str, Callable[[Number], Number]] = {
    "Neg": operator.neg,
    "Abs": abs,
    "Floor": math.floor,
    "Ceil": math.ceil,
    "Sqrt": math.sqrt,
    "Not": operator.not_,
}
_SAME = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


def fold(call: Call, shape: Shape | None) -> tuple[Number, ...] | None:
    """Return the elements of an operator's first output.

    Args:
        call: the operator.
        shape: shape of the output.

    Returns:
        The elements in order; ``None`` where they are unknown, more than ``MOST_ELEMENTS``, or no
        scalar or vector.
    """
    if shape is None or len(shape) > 1 or math.prod(shape) > MOST_ELEMENTS:
        return None
    try:
        found = _fold(call, math.prod(shape))
    except (ArithmeticError, IndexError, ValueError, TypeError):
        return None
    if found is None or len(found) != math.prod(shape):
        return None
    # Numbers that no tensor holds would grow without bound along a chain of products.
    return found if all(abs(each) < _LARGEST for each in found) else None


def _fold(call: Call, count: int) -> tuple[Number, ...] | None:
    name = call.operator
    if name == "Shape":
        dims = call.shape(0)
        attributes = call.attributes
        limits = slice(attributes.integer("start", 0), attributes.integer("end", len(dims)))
        return dims[limits]
    if name == "Size":
        return (math.prod(call.shape(0)),)
    values = list(call.values)
    if not values or any(
        value is None for value, shape in zip(values, call.shapes, strict=True) if shape is not None
    ):
        return None
    given = [value for value in values if value is not None]
    if name in _SAME:
        return given[0]
    if name == "Cast":
        if call.attributes.integer("to", 0) in _INTEGER_TYPES:
            return tuple(int(each) for each in given[0])
        return given[0]
    if name in _UNARY:
        return tuple(_UNARY[name](each) for each in given[0])
    if name in _BINARY and len(given) == 2:
        pairs = zip(_stretch(given[0], count), _stretch(given[1], count), strict=True)
        return tuple(_BINARY[name](a, b) for a, b in pairs)
    if name == "Where" and len(given) == 3:
        rows = zip(*(_stretch(each, count) for each in given), strict=True)
        return tuple(a if condition else b for condition, a, b in rows)
    if name == "Concat":
        return tuple(each for value in given for each in value)
    if name == "Gather" and len(call.shape(0)) == 1:
        return tuple(given[0][int(index)] for index in given[1])
    if name == "Slice" and len(given) > 2 and len(call.shape(0)) == 1:
        step = int(given[4][0]) if len(given) > 4 else 1
        return given[0][int(given[1][0]) : int(given[2][0]) : step]
    if name == "Expand":
        return _stretch(given[0], count)
    if name == "ReduceProd":
        return (math.prod(given[0]),)
    if name == "ReduceSum":
        return (sum(given[0]),)
    if name == "Range":
        start, end, step = (int(each[0]) for each in given)
        return tuple(range(start, end, step)) if len(range(start, end, step)) == count else None
    return None


def _stretch(values: tuple[Number, ...], count: int) -> tuple[Number, ...]:
    return values * count if len(values) == 1 else values
