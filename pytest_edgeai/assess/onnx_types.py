"""Names, dtypes and shapes of ONNX graph inputs and outputs.

Field numbers: onnx/onnx.proto3 of the ONNX project, messages ValueInfoProto, TypeProto and
TensorShapeProto.
"""

from __future__ import annotations

from pytest_edgeai.assess.onnx_tensor import dtype_name
from pytest_edgeai.assess.protobuf import LENGTH, VARINT, Reader, WireError, signed, tag
from pytest_edgeai.records import TensorSpec

_INFO_NAME = tag(1, LENGTH)
_INFO_TYPE = tag(2, LENGTH)
# TypeProto
_TENSOR = tag(1, LENGTH)
_SEQUENCE = tag(4, LENGTH)
_MAP = tag(5, LENGTH)
_OPAQUE = tag(7, LENGTH)
_SPARSE_TENSOR = tag(8, LENGTH)
_OPTIONAL = tag(9, LENGTH)
# TypeProto.Tensor, .SparseTensor, .Map, .Sequence and .Optional
_ELEMENT_TYPE = tag(1, VARINT)
_SHAPE = tag(2, LENGTH)
_KEY_TYPE = tag(1, VARINT)
_VALUE_TYPE = tag(2, LENGTH)
_CONTAINED_TYPE = tag(1, LENGTH)
# TensorShapeProto and its Dimension
_DIM = tag(1, LENGTH)
_DIM_VALUE = tag(1, VARINT)
_DIM_PARAM = tag(2, LENGTH)

_DEEPEST_TYPE = 16

_Shape = tuple[int | None, ...] | None


def read_value_info(reader: Reader, start: int, end: int) -> TensorSpec:
    """Read the ValueInfoProto in ``[start, end)``.

    A value that is no tensor has a dtype such as ``sequence(map(int64, float32))``.

    Raises:
        WireError: if the message is malformed.
    """
    name = ""
    dtype = "undefined"
    shape: _Shape = None
    for key, a, b in reader.fields(start, end):
        if key == _INFO_NAME:
            name = reader.text(a, b)
        elif key == _INFO_TYPE:
            dtype, shape = _read_type(reader, a, b, 0)
    return TensorSpec(name, dtype, shape or (), has_shape=shape is not None)


def _read_type(reader: Reader, start: int, end: int, depth: int) -> tuple[str, _Shape]:
    if depth > _DEEPEST_TYPE:
        raise WireError("types are nested too deep", start)
    dtype = "undefined"
    shape: _Shape = None
    for key, a, b in reader.fields(start, end):
        if key == _TENSOR:
            dtype, shape = _read_tensor_type(reader, a, b)
        elif key == _SPARSE_TENSOR:
            dtype, shape = f"sparse({_read_tensor_type(reader, a, b)[0]})", None
        elif key == _SEQUENCE:
            dtype, shape = f"sequence({_read_contained(reader, a, b, depth)})", None
        elif key == _OPTIONAL:
            dtype, shape = f"optional({_read_contained(reader, a, b, depth)})", None
        elif key == _MAP:
            dtype, shape = _read_map(reader, a, b, depth), None
        elif key == _OPAQUE:
            dtype, shape = "opaque", None
    return dtype, shape


def _read_tensor_type(reader: Reader, start: int, end: int) -> tuple[str, _Shape]:
    dtype = "undefined"
    shape: list[int | None] | None = None
    for key, a, b in reader.fields(start, end):
        if key == _ELEMENT_TYPE:
            dtype = dtype_name(signed(a))
        elif key == _SHAPE:
            shape = [
                _read_dimension(reader, c, d) for dim, c, d in reader.fields(a, b) if dim == _DIM
            ]
    return dtype, None if shape is None else tuple(shape)


def _read_dimension(reader: Reader, start: int, end: int) -> int | None:
    extent: int | None = None
    for key, a, _ in reader.fields(start, end):
        # The value and the symbol are alternatives; protobuf keeps the last one.
        extent = signed(a) if key == _DIM_VALUE else (None if key == _DIM_PARAM else extent)
    # Exporters write -1 for an axis that they do not know.
    return None if extent is None or extent < 0 else extent


def _read_contained(reader: Reader, start: int, end: int, depth: int) -> str:
    dtype = "undefined"
    for key, a, b in reader.fields(start, end):
        if key == _CONTAINED_TYPE:
            dtype = _read_type(reader, a, b, depth + 1)[0]
    return dtype


def _read_map(reader: Reader, start: int, end: int, depth: int) -> str:
    key_dtype = value_dtype = "undefined"
    for key, a, b in reader.fields(start, end):
        if key == _KEY_TYPE:
            key_dtype = dtype_name(signed(a))
        elif key == _VALUE_TYPE:
            value_dtype = _read_type(reader, a, b, depth + 1)[0]
    return f"map({key_dtype}, {value_dtype})"
