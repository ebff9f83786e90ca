"""Attributes of ONNX nodes and the elements of small constant tensors.

Field numbers: onnx/onnx.proto3 of the ONNX project, messages AttributeProto and TensorProto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pytest_edgeai.assess.onnx_graph import Span
from pytest_edgeai.assess.protobuf import FIXED32, LENGTH, VARINT, Reader, signed, tag

# Shapes, axes, pads and scales have some elements; no other tensor's elements are asked for.
MOST_ELEMENTS = 1024

_NAME = tag(1, LENGTH)
_F = tag(2, FIXED32)
_I = tag(3, VARINT)
_S = tag(4, LENGTH)
_T = tag(5, LENGTH)
_FLOATS, _FLOATS_PACKED = tag(7, FIXED32), tag(7, LENGTH)
_INTS, _INTS_PACKED = tag(8, VARINT), tag(8, LENGTH)
_GRAPHS = frozenset({tag(6, LENGTH), tag(11, LENGTH)})

_TENSOR_FLOATS, _TENSOR_FLOATS_PACKED = tag(4, FIXED32), tag(4, LENGTH)
_TENSOR_INT32, _TENSOR_INT32_PACKED = tag(5, VARINT), tag(5, LENGTH)
_TENSOR_INT64, _TENSOR_INT64_PACKED = tag(7, VARINT), tag(7, LENGTH)
_TENSOR_RAW = tag(9, LENGTH)
_TENSOR_TYPE = tag(2, VARINT)
_RAW_CODES: Mapping[int, str] = {1: "f", 2: "B", 3: "b", 6: "i", 7: "q", 9: "?", 11: "d"}

Number: TypeAlias = int | float


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a node, by kind.

    Attributes:
        numbers: single integers and floats.
        lists: lists of integers or floats, at most ``MOST_ELEMENTS`` long.
        texts: strings.
        tensors: spans of TensorProto messages.
        has_graphs: whether the node has a subgraph.
    """

    numbers: Mapping[str, Number]
    lists: Mapping[str, tuple[Number, ...]]
    texts: Mapping[str, str]
    tensors: Mapping[str, Span]
    has_graphs: bool

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute; the default where it is missing or no integer."""
        found = self.numbers.get(name, default)
        return found if isinstance(found, int) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of integers, ``None`` where it is not given or of other numbers."""
        found = self.lists.get(name, (0.0,))
        integers = tuple(each for each in found if isinstance(each, int))
        return integers if len(integers) == len(found) else None


def read_attributes(reader: Reader, spans: list[Span]) -> Attributes:
    """Read the attributes of a node.

    Raises:
        WireError: if a message is malformed.
    """
    numbers: dict[str, Number] = {}
    lists: dict[str, tuple[Number, ...]] = {}
    texts: dict[str, str] = {}
    tensors: dict[str, Span] = {}
    has_graphs = False
    for start, end in spans:
        name = ""
        values: list[Number] = []
        for key, a, b in reader.fields(start, end):
            if key == _NAME:
                name = reader.text(a, b)
            elif key == _I:
                numbers[name] = signed(a)
            elif key == _F:
                numbers[name] = struct.unpack("<f", reader.buffer[a:b])[0]
            elif key == _S and b - a <= MOST_ELEMENTS:
                texts[name] = reader.text(a, b)
            elif key == _T:
                tensors[name] = (a, b)
            elif key in _GRAPHS:
                has_graphs = True
            elif len(values) <= MOST_ELEMENTS:
                if key == _INTS:
                    values.append(signed(a))
                elif key == _FLOATS:
                    values.append(struct.unpack("<f", reader.buffer[a:b])[0])
                elif key == _INTS_PACKED and b - a <= 10 * MOST_ELEMENTS:
                    values.extend(reader.varints(a, b))
                elif key == _FLOATS_PACKED:
                    values.extend(_floats(reader, a, b))
        if 0 < len(values) <= MOST_ELEMENTS:
            lists[name] = tuple(values)
    return Attributes(numbers, lists, texts, tensors, has_graphs)


def read_elements(reader: Reader, span: Span, count: int) -> tuple[Number, ...] | None:
    """Read the elements of a small tensor of numbers that is stored in the model file.

    Args:
        reader: the reader of the model file.
        span: the TensorProto.
        count: its number of elements.

    Returns:
        The elements in order; ``None`` where there are more than ``MOST_ELEMENTS``, where they
        lie in another file, or where their type is none of shapes and scales.
    """
    if count > MOST_ELEMENTS:
        return None
    values: list[Number] = []
    kind = 0
    raw = b""
    for key, a, b in reader.fields(*span):
        if key == _TENSOR_TYPE:
            kind = a
        elif key == _TENSOR_RAW and b - a <= 8 * MOST_ELEMENTS:
            raw = bytes(reader.buffer[a:b])
        elif key in (_TENSOR_INT32, _TENSOR_INT64):
            values.append(signed(a))
        elif key in (_TENSOR_INT32_PACKED, _TENSOR_INT64_PACKED) and b - a <= 10 * MOST_ELEMENTS:
            values.extend(reader.varints(a, b))
        elif key == _TENSOR_FLOATS:
            values.append(struct.unpack("<f", reader.buffer[a:b])[0])
        elif key == _TENSOR_FLOATS_PACKED:
            values.extend(_floats(reader, a, b))
    code = _RAW_CODES.get(kind)
    if code is None:
        return None
    if raw and len(raw) == count * struct.calcsize(code):
        return struct.unpack(f"<{count}{code}", raw)
    return tuple(values) if len(values) == count else None


def _floats(reader: Reader, start: int, end: int) -> tuple[float, ...]:
    count = min((end - start) // 4, MOST_ELEMENTS + 1)
    return struct.unpack(f"<{count}f", bytes(reader.buffer[start : start + 4 * count]))
