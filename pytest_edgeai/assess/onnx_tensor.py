"""Headers of ONNX tensors and the external files they refer to, never their elements.

Field numbers: onnx/onnx.proto3 of the ONNX project, messages TensorProto, SparseTensorProto and
StringStringEntryProto. External data: docs/ExternalData.md of the ONNX project.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from pytest_edgeai.assess.protobuf import FIXED32, FIXED64, LENGTH, VARINT, Reader, signed, tag
from pytest_edgeai.assess.structure import stored_bytes
from pytest_edgeai.errors import ModelError

# TensorProto.DataType by number; 0 is UNDEFINED.
DTYPES: tuple[str, ...] = (
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "str",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "uint4",
    "int4",
    "float4_e2m1fn",
    "float8_e8m0fnu",
    "uint2",
    "int2",
    "float6_e2m3fn",
    "float6_e3m2fn",
)

DAMAGED = "The file is damaged: export or copy it again"

_MOST_DIMENSIONS = 1024
_MOST_ELEMENTS = 1 << 62

_DIMS = tag(1, VARINT)
_DIMS_PACKED = tag(1, LENGTH)
_DATA_TYPE = tag(2, VARINT)
_NAME = tag(8, LENGTH)
_RAW_DATA = tag(9, LENGTH)
_EXTERNAL_DATA = tag(13, LENGTH)
_DATA_LOCATION = tag(14, VARINT)
_TYPED_DATA = frozenset(
    {
        *(tag(number, LENGTH) for number in (4, 5, 6, 7, 10, 11)),
        *(tag(number, VARINT) for number in (5, 7, 11)),
        tag(4, FIXED32),
        tag(10, FIXED64),
    }
)
_ENTRY_KEY = tag(1, LENGTH)
_ENTRY_VALUE = tag(2, LENGTH)
_SPARSE_VALUES = tag(1, LENGTH)
_EXTERNAL = 1


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a TensorProto says about its tensor.

    Attributes:
        name: name of the tensor; empty inside an attribute.
        dtype: dtype name.
        dims: extent of each axis.
        elements: product of ``dims``.
        position: where its message starts in the model file, in bytes.
        raw_bytes: length of ``raw_data``; ``None`` without it.
        typed: whether it holds elements in one of the typed fields.
        external: the entries of ``external_data`` where the data lie in another file.
        end: the byte after its message; 0 where it is not known.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    elements: int
    position: int
    raw_bytes: int | None
    typed: bool
    external: tuple[tuple[str, str], ...] | None
    end: int = 0


def dtype_name(data_type: int) -> str:
    """Return the dtype name of a TensorProto.DataType number, known or not."""
    known = 0 <= data_type < len(DTYPES)
    return DTYPES[data_type] if known else f"onnx_type_{data_type}"


def read_tensor(reader: Reader, start: int, end: int, where: str) -> TensorHeader:
    """Read the header of the TensorProto in ``[start, end)``.

    Args:
        reader: the reader of the model file.
        start: first byte of the message.
        end: byte after it.
        where: the model file, for errors.

    Raises:
        WireError: if the message is malformed.
        ModelError: if its dimensions are impossible, or fewer bytes are stored than it needs.
    """
    name = ""
    data_type = 0
    dims: list[int] = []
    raw_bytes: int | None = None
    typed = False
    is_external = False
    external: list[tuple[str, str]] = []
    for key, a, b in reader.fields(start, end):
        if key == _DIMS:
            dims.append(signed(a))
        elif key == _DIMS_PACKED:
            for dim in reader.varints(a, b):
                dims.append(dim)
                if len(dims) > _MOST_DIMENSIONS:
                    break
        elif key == _DATA_TYPE:
            data_type = a
        elif key == _NAME:
            name = reader.text(a, b)
        elif key == _RAW_DATA:
            raw_bytes = b - a
        elif key == _EXTERNAL_DATA:
            external.append(_read_entry(reader, a, b))
        elif key == _DATA_LOCATION:
            is_external = a == _EXTERNAL
        elif key in _TYPED_DATA:
            typed = True
    elements = _count(name, dims, where)
    dtype = dtype_name(data_type)
    if not is_external and elements:
        needed = stored_bytes(dtype, elements)
        if raw_bytes is None and not typed:
            raise ModelError(f'tensor "{name}" has no data', where=where, advice=DAMAGED)
        if raw_bytes is not None and needed is not None and raw_bytes < needed:
            raise ModelError(
                f'tensor "{name}" holds {raw_bytes} bytes; {dtype}{dims} needs {needed}',
                where=where,
                advice=DAMAGED,
            )
    return TensorHeader(
        name=name,
        dtype=dtype,
        dims=tuple(dims),
        elements=elements,
        position=start,
        raw_bytes=raw_bytes,
        typed=typed,
        external=tuple(external) if is_external else None,
        end=end,
    )


def read_sparse_tensor(reader: Reader, start: int, end: int, where: str) -> TensorHeader | None:
    """Read the header of a SparseTensorProto's values; ``None`` where it has none.

    The name and the dtype of ``values`` are those of the sparse tensor; its elements are the
    stored ones.

    Raises:
        WireError: if the message is malformed.
        ModelError: as ``read_tensor``.
    """
    values: TensorHeader | None = None
    for key, a, b in reader.fields(start, end):
        if key == _SPARSE_VALUES:
            values = read_tensor(reader, a, b, where)
    return values


def _read_entry(reader: Reader, start: int, end: int) -> tuple[str, str]:
    entry_key = value = ""
    for key, a, b in reader.fields(start, end):
        if key == _ENTRY_KEY:
            entry_key = reader.text(a, b)
        elif key == _ENTRY_VALUE:
            value = reader.text(a, b)
    return entry_key, value


def _count(name: str, dims: list[int], where: str) -> int:
    elements = 1
    for dim in dims:
        elements *= dim
        if dim < 0 or elements > _MOST_ELEMENTS or len(dims) > _MOST_DIMENSIONS:
            raise ModelError(
                f'tensor "{name}" has impossible dimensions', where=where, advice=DAMAGED
            )
    return elements


class ExternalData:
    """Checks the external data of one model's tensors, one ``stat`` per file.

    "The location is a POSIX path, relative to the directory of the model file"; ``..`` and
    absolute paths are forbidden (onnx/onnx.proto3, TensorProto.external_data).
    """

    def __init__(self, model: Path) -> None:
        """Prepare for the tensors of ``model``."""
        self._model = model
        self._sizes: dict[str, tuple[Path, int]] = {}
        self._homes: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The external files seen, in order of name."""
        return tuple(sorted({path for path, _ in self._sizes.values()}))

    @property
    def size_bytes(self) -> int:
        """Sum of their sizes."""
        return sum(dict(self._sizes.values()).values())

    def check(self, tensor: TensorHeader) -> object:
        """Check that the bytes of ``tensor`` exist; return what identifies them.

        Raises:
            ModelError: if the location escapes the model's directory, is missing or too short.
        """
        entries = dict(tensor.external or ())
        location = entries.get("location", "")
        path, size_bytes = self._file(location, tensor.name)
        offset = self._number(entries, "offset", tensor.name)
        needed = stored_bytes(tensor.dtype, tensor.elements) or 0
        length = self._number(entries, "length", tensor.name) if "length" in entries else needed
        if length < needed:
            raise self._error(
                f'tensor "{tensor.name}" needs {needed} bytes, its external data '
                f"are declared as {length}",
                DAMAGED,
            )
        if offset + length > size_bytes:
            raise self._error(
                f'external data of tensor "{tensor.name}" reach to byte {offset + length}, '
                f'"{location}" has {size_bytes} bytes',
                f"{path.name} is truncated: copy it again or export the model again",
            )
        return (path, offset, length)

    def _file(self, location: str, tensor: str) -> tuple[Path, int]:
        known = self._sizes.get(location)
        if known is not None:
            return known
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        if (
            not location
            or "\0" in location
            or posix.is_absolute()
            or windows.drive
            or windows.root
            or ".." in posix.parts
            or ".." in windows.parts
        ):
            raise self._error(
                f'external data of tensor "{tensor}" lie at "{location}"',
                "Save the model with its external data beside it",
                allowed="a relative path inside the model's directory",
            )
        path = self._model.parent / location
        try:
            facts = path.stat()
            real = path.resolve()
            if not self._homes:
                # A model hub's cache links the model and its data into one folder of blobs.
                self._homes = (self._model.parent.resolve(), self._model.resolve().parent)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._error(
                f'external data file "{location}" of tensor "{tensor}" cannot be read '
                f"({getattr(error, 'strerror', None) or error})",
                "Copy it beside the model, or save the model with its data inside",
            ) from None
        if not stat.S_ISREG(facts.st_mode) or not any(
            real.is_relative_to(home) for home in self._homes
        ):
            raise self._error(
                f'external data of tensor "{tensor}" lie at "{location}", '
                "which is no file or leads elsewhere",
                "Copy the data file itself beside the model",
                allowed="a regular file inside the model's directory",
            )
        self._sizes[location] = (path, facts.st_size)
        return path, facts.st_size

    def _number(self, entries: dict[str, str], key: str, tensor: str) -> int:
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._error(
                f'external data of tensor "{tensor}": {key} is "{text[:40]}"',
                DAMAGED,
                allowed="a number of bytes",
            )
        return int(text)

    def _error(self, what: str, advice: str, *, allowed: str = "") -> ModelError:
        return ModelError(what, where=str(self._model), allowed=allowed, advice=advice)
