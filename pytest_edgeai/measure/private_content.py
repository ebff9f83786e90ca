"""Find samples and paths of this machine in files, whatever their format.

A sample is found where its bytes lie in a file as they lie in the data, at any offset, and are not
compressed or encoded: calibrated models hold ranges and statistics, and no sample.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_SAMPLE_BYTES = 32
"""Of one input of a sample: shorter ones are found by chance in the weights of any model."""
FEWEST_VALUES = 8
"""Different elements, likewise: masks and constant rows identify nobody."""
_WORD_BYTES = 8
_COMPARED_BYTES = 64
_BLOCK_BYTES = 16 * 2**20
_PLACES_LOOKED_AT = 64
_ROWS_AT_ONCE = 1024
_SHORT_PARTS = 3
"""Directories with fewer parts (``/app``, ``/root``) are also names that a model's layers bear, so
what lies in them has to exist."""
_PATH_END = frozenset(b"\0\n\r\t\"'<>|;,:*?` ()[]{}")


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """Words by which samples are looked for.

    Attributes:
        words: uint64, sorted: one word of each sample.
        samples: what each belongs to: ``evaluation sample 3, input "image"``.
        patterns: bytes of the sample from its word on, as many as are compared.
    """

    words: NDArray[np.uint64]
    samples: tuple[str, ...]
    patterns: tuple[bytes, ...]


def index_samples(datasets: Mapping[str, Mapping[str, NDArray[Any]]]) -> SampleIndex:
    """Return what finds the samples of several data sets.

    A row that most samples share, such as the positions of tokens, identifies none of them.

    Args:
        datasets: what each is called, to input name to array; axis 0 counts the samples.
    """
    found: list[tuple[int, str, bytes]] = []
    seen: set[bytes] = set()
    for name, arrays in datasets.items():
        for key, array in arrays.items():
            if array.dtype.kind not in "iufc" or array.ndim < 2:
                continue
            rows = np.ascontiguousarray(array).reshape(len(array), -1)
            if rows.shape[1] * rows.itemsize < SMALLEST_SAMPLE_BYTES:
                continue
            keys = [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
            counts = Counter(keys)
            for number, at in enumerate(_telling(rows)):
                digest = keys[number]
                is_common = counts[digest] > 1 and 2 * counts[digest] > len(rows)
                if at < 0 or is_common or digest in seen:
                    continue
                seen.add(digest)
                raw = rows[number, at : at + _compared(rows)].tobytes()
                word = int.from_bytes(raw[:_WORD_BYTES], "little")
                found.append((word, f'{name} sample {number}, input "{key}"', raw))
    found.sort(key=lambda item: item[0])
    return SampleIndex(
        np.asarray([word for word, _, _ in found], dtype=np.uint64),
        tuple(sample for _, sample, _ in found),
        tuple(pattern for _, _, pattern in found),
    )


def _compared(rows: NDArray[Any]) -> int:
    """Return how many elements of a row are compared."""
    return max(1, min(int(rows.shape[1]), _COMPARED_BYTES // int(rows.itemsize)))


def _telling(rows: NDArray[Any]) -> list[int]:
    """Return where in each row the most different values begin; -1 where too few do.

    Looked at are some places that are spread evenly over the row.
    """
    size = _compared(rows)
    last = rows.shape[1] - size
    starts = np.unique(np.linspace(0, last, min(last + 1, _PLACES_LOOKED_AT)).astype(np.int64))
    windows = starts[:, None] + np.arange(size)
    chosen: list[int] = []
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        ordered = np.sort(rows[begin : begin + _ROWS_AT_ONCE, windows], axis=-1)
        different = 1 + np.count_nonzero(ordered[..., 1:] != ordered[..., :-1], axis=-1)
        best = different.argmax(axis=1)
        enough = different.max(axis=1) >= min(FEWEST_VALUES, size)
        chosen += np.where(enough, starts[best], -1).tolist()
    return chosen


def find_samples(path: Path, index: SampleIndex) -> list[str]:
    """Return which samples lie in a file, each once, in the order of the file.

    Raises:
        OSError: it cannot be read.
    """
    if not len(index.words) or path.stat().st_size < SMALLEST_SAMPLE_BYTES:
        return []
    # Two bytes of each word leave few places to look at more closely.
    likely = np.zeros(2**16, np.bool_)
    likely[(index.words & np.uint64(0xFFFF)).astype(np.int64)] = True
    found: dict[str, None] = {}
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for begin in range(0, len(content), _BLOCK_BYTES):
            block = content[begin : begin + _BLOCK_BYTES + _WORD_BYTES - 1]
            for shift in range(_WORD_BYTES):
                count = (len(block) - shift) // _WORD_BYTES
                if count <= 0:
                    continue
                words = np.frombuffer(block, np.dtype("<u8"), count, shift)
                places = np.flatnonzero(likely[(words & np.uint64(0xFFFF)).astype(np.int64)])
                at = np.searchsorted(index.words, words[places])
                at = np.minimum(at, len(index.words) - 1)
                for hit in np.flatnonzero(index.words[at] == words[places]):
                    offset = begin + shift + int(places[hit]) * _WORD_BYTES
                    for sample in _matching(index, int(at[hit]), content, offset):
                        found[sample] = None
    return list(found)


def _matching(index: SampleIndex, first: int, content: mmap.mmap, offset: int) -> list[str]:
    """Return the samples whose pattern lies at an offset; equal words lie side by side."""
    matching = []
    word = index.words[first]
    for number in range(first, len(index.words)):
        if index.words[number] != word:
            break
        pattern = index.patterns[number]
        if content[offset : offset + len(pattern)] == pattern:
            matching.append(index.samples[number])
    return matching


def find_places(content: bytes | mmap.mmap, places: Sequence[str]) -> list[str]:
    """Return the paths below directories of this machine that stand in some bytes, each once.

    They are looked for in UTF-8 and in UTF-16, with either kind of slash as they are spelled.

    Args:
        content: the bytes of a file.
        places: absolute directories.
    """
    found: dict[str, None] = {}
    for place in places:
        for encoding, step in (("utf-8", 1), ("utf-16-le", 2)):
            wanted = place.encode(encoding)
            at = content.find(wanted)
            while at >= 0:
                path = _path_at(content, at, step, encoding)
                if _is_of_this_machine(place, path):
                    found[path] = None
                at = content.find(wanted, at + len(wanted))
    return list(found)


def _path_at(content: bytes | mmap.mmap, at: int, step: int, encoding: str) -> str:
    end = at
    while end < min(len(content), at + 4096 * step) and (
        content[end] not in _PATH_END or any(content[end + 1 : end + step])
    ):
        end += step
    return content[at:end].decode(encoding, "replace")


def _is_of_this_machine(place: str, path: str) -> bool:
    rest = path[len(place) :]
    if rest and rest[0] not in "/\\":
        return False  # another directory, whose name begins alike
    if len(Path(place).parts) >= _SHORT_PARTS:
        return True
    first = rest.lstrip("/\\").replace("\\", "/").partition("/")[0]
    return bool(first) and (Path(place) / first).exists()


def find_places_in_file(path: Path, places: Sequence[str]) -> list[str]:
    """Return what :func:`find_places` finds in a file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.stat().st_size:
        return []
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return find_places(content, places)
