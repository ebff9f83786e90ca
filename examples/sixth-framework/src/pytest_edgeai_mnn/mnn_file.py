"""The weights of a ``.mnn`` file, by the precision that they are stored in; nothing is run.

Sources: the schema in ``schema/default/*.fbs`` of https://github.com/alibaba/MNN, whose tables only
ever grow at their end; https://flatbuffers.dev/internals for the encoding; and
``source/core/ConvolutionCommon.cpp`` there for what a quantized weight's buffer holds.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import ModelError

# Positions of fields in their tables. A union takes two: its type, then its value.
_NET_OPERATORS, _NET_SUBGRAPHS, _SUBGRAPH_NODES = 3, 10, 4
_OP_PARAMETER_TYPE, _OP_PARAMETER, _OP_TYPE = 1, 2, 5
# Members of the union OpParameter that hold weights, with their vectors of float32.
_CONVOLUTION, _INNER_PRODUCT, _BLOB = 9, 20, 7
_FLOATS: Mapping[int, tuple[int, ...]] = {
    5: (1, 2, 3, 4, 5, 6),  # BatchNorm
    _CONVOLUTION: (1, 2),
    _INNER_PRODUCT: (3, 4),
    32: (1,),  # PRelu
    58: (1, 2),  # Scale
    80: (1, 2),  # Convolution3D
    88: (2, 3),  # LayerNorm
}
# The position of IDSTQuan: weights that are quantized, or stored as float16.
_QUANTIZED = {_CONVOLUTION: 3, _INNER_PRODUCT: 7}
_SYMMETRIC = 4  # of Convolution2D: weights of operators that compute on int8
_IDST_BUFFER, _IDST_SCALES, _IDST_TYPE, _IDST_WIDE_SHAPE = 0, 1, 2, 11
_IDST_PACKED, _IDST_FLOAT16, _IDST_PLAIN = 1, 3, 4
# Blob: position of a vector, bytes of an element, dtype name.
_BLOB_TYPE, _HALF = 2, 19
_BLOB_VECTORS = (
    (3, 1, "uint8"),
    (4, 1, "int8"),
    (5, 4, "int32"),
    (6, 8, "int64"),
    (7, 4, "float32"),
)
_BYTES = {"float32": 4, "float16": 2}
# What an operator takes beside its weights: its table, names and index lists.
_OPERATOR_BYTES = 1024
_STRUCTURE_RATIO = 0.05


@dataclass(frozen=True)
class StoredWeights:
    """What a ``.mnn`` file holds.

    Attributes:
        elements: precision (``float32``, ``float16``, ``int8``, ``int4`` ...) to number of weight
            elements; int32 and int64 are shapes and indices.
        quantized_operators: MNN's number of the operator type, as ``OpType 12``, to number of
            operators whose weights are integers.
    """

    elements: Mapping[str, int]
    quantized_operators: Mapping[str, int]


class _Table:
    """One table of a FlatBuffers message."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        (back,) = struct.unpack_from("<i", data, position)
        self._vtable = position - back
        if not 0 <= self._vtable <= len(data) - 4:
            raise ValueError("a table lies outside of the file")
        self._vtable_bytes, _ = struct.unpack_from("<HH", data, self._vtable)

    def _field(self, index: int) -> int:
        """Return where a field lies; 0 where it is left out."""
        entry = 4 + 2 * index
        if entry + 2 > self._vtable_bytes:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + entry)
        return self._position + int(offset) if offset else 0

    def number(self, index: int, form: str, default: int = 0) -> int:
        """Return a scalar; ``form`` is its character in :mod:`struct`."""
        position = self._field(index)
        return int(struct.unpack_from("<" + form, self._data, position)[0]) if position else default

    def table(self, index: int) -> _Table | None:
        """Return a table, if it is there."""
        position = self._field(index)
        return _Table(self._data, _target(self._data, position)) if position else None

    def vector(self, index: int, size: int) -> tuple[int, int]:
        """Return where a vector begins and how many elements of ``size`` bytes it has."""
        position = self._field(index)
        if not position:
            return 0, 0
        start = _target(self._data, position)
        (count,) = struct.unpack_from("<I", self._data, start)
        if start + 4 + size * count > len(self._data):
            raise ValueError("a vector runs past the end of the file")
        return start + 4, int(count)

    def bytes_of(self, index: int) -> bytes:
        """Return a vector of bytes."""
        start, count = self.vector(index, 1)
        return self._data[start : start + count]

    def tables(self, index: int) -> Iterator[_Table]:
        """Yield the tables of a vector."""
        start, count = self.vector(index, 4)
        for position in range(start, start + 4 * count, 4):
            yield _Table(self._data, _target(self._data, position))


def _target(data: bytes, position: int) -> int:
    (offset,) = struct.unpack_from("<I", data, position)
    return position + int(offset)


def read_weights(path: Path) -> StoredWeights:
    """Count the weights of a ``.mnn`` file.

    Raises:
        ModelError: the file is missing or damaged, or much of it lies in operators that are not
            known here.
    """
    try:
        return _count(path, path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    except (struct.error, ValueError, IndexError) as error:
        raise ModelError(
            f"the file is damaged or no MNN model ({error})", where=str(path)
        ) from None


def _count(path: Path, data: bytes) -> StoredWeights:
    net = _Table(data, _target(data, 0))
    operators = [*net.tables(_NET_OPERATORS)]
    for subgraph in net.tables(_NET_SUBGRAPHS):
        operators += subgraph.tables(_SUBGRAPH_NODES)
    if not operators:
        raise ValueError("it holds no operator")
    elements: Counter[str] = Counter()
    quantized: Counter[str] = Counter()
    stored_bytes = 0
    for operator in operators:
        for dtype, count, size_bytes in _weights_of(operator):
            elements[dtype] += count
            stored_bytes += size_bytes
            if dtype.startswith("int") and dtype not in ("int32", "int64"):
                quantized[f"OpType {operator.number(_OP_TYPE, 'i')}"] += 1
    structure = _OPERATOR_BYTES * (len(operators) + 1) + _STRUCTURE_RATIO * len(data)
    unknown = len(data) - stored_bytes
    if unknown > structure:
        raise ModelError(
            f"{unknown} of {len(data)} bytes lie in operators whose weights are not known here",
            where=str(path),
        )
    return StoredWeights(dict(sorted(elements.items())), dict(sorted(quantized.items())))


def _weights_of(operator: _Table) -> Iterator[tuple[str, int, int]]:
    """Yield the precision, the number of elements and the bytes of each weight."""
    kind = operator.number(_OP_PARAMETER_TYPE, "B")
    parameter = operator.table(_OP_PARAMETER)
    if parameter is None:
        return
    for index in _FLOATS.get(kind, ()):
        _, count = parameter.vector(index, 4)
        if count:
            yield "float32", count, 4 * count
    if kind == _BLOB:
        is_half = parameter.number(_BLOB_TYPE, "i") == _HALF
        for index, size, dtype in _BLOB_VECTORS:
            _, count = parameter.vector(index, size)
            if count and is_half and size == 1:
                yield "float16", count // 2, count
            elif count:
                yield dtype, count, size * count
    if kind in _QUANTIZED and (quantized := parameter.table(_QUANTIZED[kind])) is not None:
        yield from _quantized_weight(quantized)
    if kind == _CONVOLUTION and (symmetric := parameter.table(_SYMMETRIC)) is not None:
        _, count = symmetric.vector(0, 1)
        if count:
            yield "int8", count, count


def _quantized_weight(quantized: _Table) -> Iterator[tuple[str, int, int]]:
    buffer = quantized.bytes_of(_IDST_BUFFER)
    if not buffer:
        return
    kind = quantized.number(_IDST_TYPE, "i")
    _, scales = quantized.vector(_IDST_SCALES, 4)
    if kind == _IDST_FLOAT16:
        yield "float16", len(buffer) // 2, len(buffer)
    elif kind == _IDST_PLAIN:
        yield "int8", len(buffer), len(buffer)
    elif kind == _IDST_PACKED:
        wide = bool(quantized.number(_IDST_WIDE_SHAPE, "B"))
        bits, count = _packed(buffer, wide)
        yield f"int{bits}", count, len(buffer)
    else:
        raise ValueError(f"weights are of the kind {kind}")
    if scales:
        yield "float32", scales, 4 * scales


def _packed(buffer: bytes, wide: bool) -> tuple[int, int]:
    """Return the bits of an index into the table of values, and the number of indices.

    The buffer holds the rank, the shape, the number of values (0 for 256), the values, and then
    the indices with as many bits as it takes to tell the values apart.
    """
    rank = buffer[0]
    form = f"<{rank}{'i' if wide else 'H'}"
    shape = struct.unpack_from(form, buffer, 1)
    values = buffer[1 + struct.calcsize(form)] or 256
    return max(1, math.ceil(math.log2(values))), math.prod(shape)
