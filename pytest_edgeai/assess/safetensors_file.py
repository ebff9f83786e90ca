"""The header of a safetensors file, its tensors left unread.

Source: https://huggingface.co/docs/safetensors, section "Format": eight bytes give the length N of
the header as little-endian u64, N bytes of JSON follow, and then one buffer without holes. The
reference implementation refuses headers above 100 MB (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from pytest_edgeai.assess.structure import stored_bytes
from pytest_edgeai.errors import ModelError

DAMAGED = "The file is truncated or damaged: download or export it again"

# Names of safetensors (enum Dtype in tensor.rs) as dtype names.
DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}

_LONGEST_HEADER = 100_000_000
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_MOST_DIMENSIONS = 64
_MOST_ELEMENTS = 1 << 62


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The header of one tensor.

    Attributes:
        name: name of the tensor.
        dtype: dtype name.
        shape: extent of each axis.
        elements: product of ``shape``.
        stored_bytes: bytes of its data.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    stored_bytes: int


class _DuplicateKey(ValueError):
    pass


def read_safetensors(path: Path) -> tuple[StoredTensor, ...]:
    """Read the tensor headers of a safetensors file, in the order of its data.

    Args:
        path: an existing file.

    Raises:
        ModelError: if it is cut short or no safetensors file, or if its header says what cannot
            be: an absurd length, duplicates, unknown dtypes, shapes that do not fit the bytes,
            data that overlap, leave holes or run past the end.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError("this is no regular file", where=str(path))
        with path.open("rb") as file:
            header, start = _read_header(path, file, facts.st_size)
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    header.pop(_METADATA, None)
    found = [_read_tensor(path, name, entry) for name, entry in header.items()]
    found.sort(key=lambda item: item[:2])
    _check_data(path, found, facts.st_size - start)
    return tuple(tensor for _, _, tensor in found)


def _read_header(path: Path, file: BinaryIO, size_bytes: int) -> tuple[dict[str, Any], int]:
    raw = file.read(_LENGTH_BYTES)
    if raw == b"version ":
        raise ModelError(
            "the file is a Git LFS pointer, not the weights",
            where=str(path),
            advice="Run: git lfs pull",
        )
    if len(raw) < _LENGTH_BYTES:
        raise _error(path, f"the file has {size_bytes} bytes, less than the length of a header")
    length = int.from_bytes(raw, "little")
    if length > _LONGEST_HEADER:
        raise _error(
            path, f"the header declares {length} bytes; the format allows {_LONGEST_HEADER}"
        )
    if _LENGTH_BYTES + length > size_bytes:
        raise _error(
            path,
            f"the file is cut short: the header needs {_LENGTH_BYTES + length} bytes, "
            f"the file has {size_bytes}",
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise _error(path, "this is no safetensors file: its header does not start with {")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except _DuplicateKey as error:
        raise _error(path, f"the header {error}") from None
    except (ValueError, RecursionError) as error:
        raise _error(path, f"the header is no JSON: {str(error)[:80]}") from None
    if not isinstance(header, dict):
        raise _error(path, "the header is no JSON object")
    return header, _LENGTH_BYTES + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKey(f'names "{twice[:64]}" twice')
    return found


def _read_tensor(path: Path, name: str, entry: object) -> tuple[int, int, StoredTensor]:
    if not isinstance(entry, dict):
        raise _error(path, f'the header\'s entry "{name[:64]}" is no object')
    stated, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = DTYPES.get(stated) if isinstance(stated, str) else None
    if dtype is None:
        raise _error(path, f'tensor "{name[:64]}" has the dtype {str(stated)[:20]}, not known')
    if not _is_counts(shape) or len(shape) > _MOST_DIMENSIONS:
        raise _error(path, f'tensor "{name[:64]}" has no valid shape')
    if not _is_counts(span) or len(span) != 2:
        raise _error(path, f'tensor "{name[:64]}" has no valid data_offsets')
    begin, end = span
    elements = 1
    for extent in shape:
        elements *= extent
        if elements > _MOST_ELEMENTS:
            raise _error(path, f'tensor "{name[:64]}" has impossible dimensions')
    needed = stored_bytes(dtype, elements)
    if needed != end - begin:
        raise _error(
            path,
            f'tensor "{name[:64]}" holds {end - begin} bytes; {stated}{shape} needs {needed}',
        )
    return begin, end, StoredTensor(name, dtype, tuple(shape), elements, end - begin)


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(each) is int and 0 <= each <= _MOST_ELEMENTS for each in value
    )


def _check_data(path: Path, found: list[tuple[int, int, StoredTensor]], data_bytes: int) -> None:
    reached = 0
    for begin, end, tensor in found:
        if begin != reached:
            what = "overlap" if begin < reached else "leave a hole"
            raise _error(path, f'the data {what} before tensor "{tensor.name[:64]}"')
        reached = end
    if reached > data_bytes:
        raise _error(
            path, f"the file is cut short: its tensors need {reached} bytes, it holds {data_bytes}"
        )
    if reached < data_bytes:
        raise _error(path, f"{data_bytes - reached} bytes follow the last tensor")


def _error(path: Path, what: str) -> ModelError:
    return ModelError(what, where=str(path), advice=DAMAGED)
