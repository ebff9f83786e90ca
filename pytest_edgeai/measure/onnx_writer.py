"""Write small ONNX models byte by byte, without the onnx package.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the encoding of the wire:
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VARINT, _LENGTH = 0, 2
_IR_VERSION, _OPSET = 8, 17
_DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3}
"""TensorProto.DataType."""


def write_model(
    path: Path,
    nodes: Iterable[tuple[str, tuple[str, ...], str]],
    weights: Mapping[str, NDArray[Any]],
    *,
    features: int,
    classes: int,
    rows: int = 1,
) -> Path:
    """Write a model of one input ``x`` (rows, features) and one output ``y`` (rows, classes).

    Args:
        path: the file.
        nodes: operator, names of its inputs, name of its output; in order of execution.
        weights: initializers by name; float32, int8 or uint8.
        features: columns of the input.
        classes: columns of the output.
        rows: rows of both.
    """
    graph = b"".join(_field(1, _node(*node)) for node in nodes)
    graph += _field(2, b"planted")
    graph += b"".join(_field(5, _tensor(name, array)) for name, array in weights.items())
    graph += _field(11, _value("x", rows, features)) + _field(12, _value("y", rows, classes))
    opset = _field(1, b"") + _number(2, _OPSET)
    path.write_bytes(_number(1, _IR_VERSION) + _field(7, graph) + _field(8, opset))
    return path


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    named = b"".join(_field(1, name.encode()) for name in inputs)
    return named + _field(2, output.encode()) + _field(4, operator.encode())


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    kind = _number(2, _DATA_TYPES[array.dtype.name])
    little = array.astype(array.dtype.newbyteorder("<"))
    return (
        dims + kind + _field(8, name.encode()) + _field(9, np.ascontiguousarray(little).tobytes())
    )


def _value(name: str, rows: int, columns: int) -> bytes:
    axes = b"".join(_field(1, _number(1, size)) for size in (rows, columns))
    tensor_type = _number(1, _DATA_TYPES["float32"]) + _field(2, axes)
    return _field(1, name.encode()) + _field(2, _field(1, tensor_type))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content
