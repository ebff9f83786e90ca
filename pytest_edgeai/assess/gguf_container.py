"""A lazy reader of the GGUF container, versions 2 and 3: metadata and tensor headers, no tensor.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pytest_edgeai.assess.ggml_types import GGML_TYPES, GgmlType
from pytest_edgeai.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DAMAGED = "The file is truncated or damaged: copy or convert it again"

_DEFAULT_ALIGNMENT = 32
# ggml.h: GGML_MAX_DIMS.
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 62
# Real files have some hundred entries and some ten thousand tensors.
_MOST_ENTRIES = 1_000_000
_MOST_TENSORS = 1_000_000
# The longest tokenizers have some 800,000 strings; the limit bounds the time of a crafted file.
_MOST_STRINGS = 20_000_000
_DEEPEST_ARRAY = 4
# "It can be at most 2^16 - 1 bytes long" (on keys); tensor names are at most 64 bytes.
_LONGEST_NAME = (1 << 16) - 1
# Values are kept for their facts: of longer texts (chat templates) and arrays the length will do.
_LONGEST_TEXT = 256
_LONGEST_ARRAY = 4096
# What may be kept of one file, in values and in bytes of text.
_MOST_VALUES = 1 << 20
_MOST_TEXT_BYTES = 1 << 27
# Shortest entry: an empty key's length, a type, one byte. Shortest tensor: name, counts, offset.
_ENTRY_BYTES = 8 + 4 + 1
_TENSOR_BYTES = 8 + 4 + 4 + 8

_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, struct.Struct] = {
    number: struct.Struct("<" + code)
    for number, code in (
        (0, "B"),
        (1, "b"),
        (2, "H"),
        (3, "h"),
        (4, "I"),
        (5, "i"),
        (6, "f"),
        (7, "?"),
        (10, "Q"),
        (11, "q"),
        (12, "d"),
    )
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TYPE_AND_OFFSET = struct.Struct("<IQ")

Buffer: TypeAlias = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class MetadataArray:
    """An array of the metadata.

    Attributes:
        length: number of values.
        values: the values of a short array of numbers; empty for any other.
    """

    length: int
    values: tuple[int | float, ...] = ()


Value: TypeAlias = str | int | float | bool | MetadataArray


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """The header of one tensor.

    Attributes:
        name: name of the tensor.
        type: its ggml type.
        dims: extents, the contiguous one first, as ggml counts them.
        elements: product of ``dims``.
        stored_bytes: bytes of its data.
    """

    name: str
    type: GgmlType
    dims: tuple[int, ...]
    elements: int
    stored_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """What the header of a GGUF file says.

    Attributes:
        path: the file.
        version: version of the container.
        size_bytes: size of the file.
        metadata: key to value.
        tensors: tensors in the order of the file.
        alignment: bytes that the data of a tensor are aligned to.
        data_end_bytes: where the data of the last tensor end.
    """

    path: Path
    version: int
    size_bytes: int
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]
    alignment: int
    data_end_bytes: int


def read_container(path: Path, *, longest_text: int = _LONGEST_TEXT) -> GgufFile:
    """Read the header of a GGUF file; the cost does not grow with its tensors' data.

    Args:
        path: an existing ``.gguf`` file.
        longest_text: bytes that are kept of a text of the metadata.

    Raises:
        ModelError: if it is no GGUF file, of another version or byte order, cut short, or says
            what cannot be: impossible counts, duplicates, unknown types, overlapping tensors.
    """
    try:
        facts = path.stat()
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError("the model is no regular file", where=str(path))
        if not facts.st_size:
            raise ModelError("the model file is empty", where=str(path), advice=DAMAGED)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            return _HeaderReader(path, mapped, longest_text).read()
    except OSError as error:
        raise ModelError(
            f"the model cannot be read ({error.strerror or error})", where=str(path)
        ) from None


class _HeaderReader:
    def __init__(self, path: Path, buffer: Buffer, longest_text: int) -> None:
        self._path = path
        self._buffer = buffer
        self._longest_text = longest_text
        self._end = len(buffer)
        self._at = 0
        self._strings = 0
        self._values = 0
        self._text_bytes = 0

    def read(self) -> GgufFile:
        version = self._read_version()
        tensors, entries = self._number(_U64), self._number(_U64)
        self._check_count("tensors", tensors, _TENSOR_BYTES, _MOST_TENSORS)
        self._check_count("metadata entries", entries, _ENTRY_BYTES, _MOST_ENTRIES)
        metadata: dict[str, Value] = {}
        for _ in range(entries):
            key = self._text(_LONGEST_NAME, "a metadata key")
            if key in metadata:
                raise self._error(f'the metadata key "{key[:64]}" occurs twice')
            metadata[key] = self._value(self._number(_U32), key, 0)
        headers = self._read_tensors(tensors)
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._error(f"general.alignment is {alignment}, not a power of two")
        data_end_bytes = self._check_data(headers, alignment)
        return GgufFile(
            self._path,
            version,
            self._end,
            metadata,
            tuple(header for header, _ in headers),
            alignment,
            data_end_bytes,
        )

    def _read_version(self) -> int:
        start = bytes(self._buffer[:64])
        if start.startswith(b"version https://git-lfs"):
            raise ModelError(
                "the file is a Git LFS pointer, not the model",
                where=str(self._path),
                advice="Run: git lfs pull",
            )
        if not start.startswith(MAGIC):
            raise ModelError(
                "this is no GGUF file: it does not start with the letters GGUF",
                where=str(self._path),
                advice="Convert the model to GGUF, or copy the file again",
            )
        self._at = len(MAGIC)
        version: int = self._number(_U32)
        if version in VERSIONS:
            return version
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *VERSIONS):
            raise ModelError(
                "the GGUF file is big-endian",
                where=str(self._path),
                allowed="little-endian files",
                advice="Convert the model again for a little-endian machine",
            )
        raise ModelError(
            f"the GGUF file has version {version}",
            where=str(self._path),
            allowed=" and ".join(map(str, VERSIONS)),
            advice="Convert the model again with a current llama.cpp",
        )

    def _read_tensors(self, count: int) -> list[tuple[GgufTensor, int]]:
        headers: list[tuple[GgufTensor, int]] = []
        names: set[str] = set()
        for _ in range(count):
            name = self._text(_LONGEST_NAME, "a tensor name")
            if name in names:
                raise self._error(f'the tensor "{name[:64]}" occurs twice')
            names.add(name)
            headers.append(self._read_tensor(name))
        return headers

    def _read_tensor(self, name: str) -> tuple[GgufTensor, int]:
        rank = self._number(_U32)
        if rank > _MOST_DIMENSIONS:
            raise self._error(f'tensor "{name[:64]}" has {rank} dimensions; GGUF allows 4')
        dims = tuple(self._number(_U64) for _ in range(rank))
        elements = 1
        for dim in dims:
            elements *= dim
        if elements > _MOST_ELEMENTS or any(dim > _MOST_ELEMENTS for dim in dims):
            raise self._error(f'tensor "{name[:64]}" has impossible dimensions {list(dims)}')
        number, offset = self._unpack(_TYPE_AND_OFFSET)
        kind = GGML_TYPES.get(number)
        if kind is None:
            raise ModelError(
                f'tensor "{name[:64]}" has the ggml type {number}, which is not known',
                where=str(self._path),
                advice="Quantize the model again with a current llama.cpp",
            )
        row = dims[0] if dims else 1
        if row % kind.block_elements:
            raise self._error(
                f'tensor "{name[:64]}" has rows of {row} elements, '
                f"and {kind.name} stores blocks of {kind.block_elements}"
            )
        stored = elements // kind.block_elements * kind.block_bytes
        return GgufTensor(name, kind, dims, elements, stored), offset

    def _check_data(self, headers: list[tuple[GgufTensor, int]], alignment: int) -> int:
        start = -(-self._at // alignment) * alignment
        reached, last = 0, ""
        for tensor, offset in sorted(headers, key=lambda item: (item[1], item[0].stored_bytes)):
            if offset % alignment:
                raise self._error(
                    f'tensor "{tensor.name[:64]}" starts at byte {offset} of the data, '
                    f"which is no multiple of general.alignment ({alignment})"
                )
            if offset < reached:
                raise self._error(f'the data of tensors "{last}" and "{tensor.name[:64]}" overlap')
            reached, last = offset + tensor.stored_bytes, tensor.name[:64]
            if start + reached > self._end:
                raise self._error(
                    f'the file is cut short: tensor "{last}" reaches to byte {start + reached}, '
                    f"the file has {self._end} bytes"
                )
        return start + reached

    def _check_count(self, what: str, count: int, least_bytes: int, most: int) -> None:
        if count > most or count * least_bytes > self._end:
            raise self._error(f"the header declares {count} {what}, more than the file can hold")

    def _value(self, kind: int, key: str, depth: int) -> Value:
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            value: int | float | bool = self._unpack(scalar)[0]
            return value
        if kind == _STRING:
            return self._text(None, "a metadata value")
        if kind != _ARRAY:
            raise self._error(f'the metadata key "{key[:64]}" has the type {kind}, not 0 to 12')
        if depth >= _DEEPEST_ARRAY:
            raise self._error(f'the metadata key "{key[:64]}" nests arrays too deep')
        inner = self._number(_U32)
        length = self._number(_U64)
        scalar = _SCALARS.get(inner)
        if scalar is not None:
            start = self._skip(length * scalar.size, f'the array "{key[:64]}"')
            self._values += length
            if length > _LONGEST_ARRAY or self._values > _MOST_VALUES:
                return MetadataArray(length)
            raw = bytes(self._buffer[start : self._at])
            return MetadataArray(length, tuple(item[0] for item in scalar.iter_unpack(raw)))
        # The bytes that are left bound the count, so that a damaged one is refused at once.
        if length * 8 > self._end - self._at:
            raise self._error(f'the array "{key[:64]}" declares {length} values and is cut short')
        self._count_strings(length)
        if inner == _STRING:
            self._skip_strings(length, key)
        else:
            for _ in range(length):
                self._value(inner, key, depth + 1)
        return MetadataArray(length)

    def _skip_strings(self, count: int, key: str) -> None:
        unpack, buffer, at, end = _U64.unpack_from, self._buffer, self._at, self._end
        for _ in range(count):
            if at + 8 > end:
                break
            at += 8 + unpack(buffer, at)[0]
        if at > end or at < self._at + 8 * count:
            raise self._error(f'the file is cut short inside the array "{key[:64]}"')
        self._at = at

    def _count_strings(self, count: int) -> None:
        self._strings += count
        if self._strings > _MOST_STRINGS:
            raise self._error("the metadata hold more strings than any tokenizer has")

    def _text(self, longest: int | None, what: str) -> str:
        length: int = self._number(_U64)
        if longest is not None and length > longest:
            raise self._error(f"{what} is {length} bytes long")
        start = self._skip(length, what)
        kept = self._at if longest is not None else min(self._at, start + self._longest_text)
        self._text_bytes += kept - start
        if self._text_bytes > _MOST_TEXT_BYTES:
            raise self._error("its names are longer than any model's")
        return bytes(self._buffer[start:kept]).decode("utf-8", "replace")

    def _skip(self, count: int, what: str) -> int:
        start = self._at
        if count > self._end - start:
            raise self._error(f"the file is cut short inside {what} at byte {start}")
        self._at = start + count
        return start

    def _number(self, kind: struct.Struct) -> int:
        value: int = self._unpack(kind)[0]
        return value

    def _unpack(self, kind: struct.Struct) -> tuple[int, ...]:
        start = self._skip(kind.size, "its header")
        return kind.unpack_from(self._buffer, start)

    def _error(self, what: str) -> ModelError:
        return ModelError(what, where=str(self._path), advice=DAMAGED)
