"""What logits say of a block of text, and the file in which two workers exchange them.

All in float32, as logits are, and part by part: a step then finds in the cache what the one before
left there. Beside the forward passes of a small model, fresh memory and a second pass are felt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError

# A quarter of a megabyte. Whole blocks take twice as long with a vocabulary of 5,000.
_PART_VALUES = 65_536

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """What one block says of one model; arrays of shape ``(tokens - 1,)``.

    Attributes:
        nll: float64, negative log-likelihood of each next token, in nats.
        likeliest: int64, the token that the model would have chosen.
        nan: logits that are no number.
        infinite: logits that are infinite.
        normalizers: float32, :func:`log_sum_exp` of the logits before each next token.
    """

    nll: NDArray[np.float64]
    likeliest: NDArray[np.int64]
    nan: int
    infinite: int
    normalizers: Float32


def log_sum_exp(logits: Float32, work: Float32 | None = None) -> Float32:
    """Return the logarithm of the sum of exponentials over the last axis, which goes.

    ``work`` is an array of the same shape to work in.
    """
    top = logits.max(axis=-1, keepdims=True)
    shifted = np.subtract(logits, top, out=work)
    np.exp(shifted, out=shifted)
    return cast("Float32", top[..., 0] + np.log(shifted.sum(axis=-1)))


def score_block(logits: Float32, tokens: NDArray[np.int32]) -> Scores:
    """Score the tokens of a block by the logits before each.

    Args:
        logits: float32, shape ``(tokens, vocabulary)``.
        tokens: int32, shape ``(tokens,)``.
    """
    before, following = logits[:-1], tokens[1:]
    normalizers = np.empty(len(before), np.float32)
    likeliest = np.empty(len(before), np.int64)
    finite = True
    with np.errstate(invalid="ignore", over="ignore"):
        for part in _parts(before.shape):
            rows = before[part]
            normalizers[part] = log_sum_exp(rows, _work(rows.shape)[0])
            likeliest[part] = rows.argmax(axis=-1)
            # A sum may overflow, too; what is counted decides.
            finite &= bool(np.isfinite(rows.sum()))
        nll = normalizers - before[np.arange(len(before)), following]
    nan = infinite = 0
    if not finite:
        nan, infinite = int(np.isnan(before).sum()), int(np.isinf(before).sum())
    return Scores(nll.astype(np.float64), likeliest, nan, infinite, normalizers)


def divergence(
    reference: Float32, logits: Float32, normalizers: tuple[Float32, Float32] | None = None
) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence D(reference || model) at each position, in nats.

    ``sum p (log p - log q)`` over the vocabulary, with p the softmax of ``reference`` and q that of
    ``logits`` (Kullback and Leibler 1951).

    Args:
        reference: float32 logits, shape ``(tokens, vocabulary)``.
        logits: likewise.
        normalizers: :func:`log_sum_exp` of each, shape ``(tokens,)``, where they are known.
    """
    summed = np.empty(len(logits), np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for part in _parts(logits.shape):
            sides = reference[part], logits[part]
            work = _work(sides[1].shape)
            for side, (rows, out) in enumerate(zip(sides, work, strict=True)):
                known = normalizers[side][part] if normalizers else log_sum_exp(rows, out)
                np.subtract(rows, known[:, None], out=out)
            p, difference = work
            np.subtract(p, difference, out=difference)
            np.exp(p, out=p)
            summed[part] = np.einsum("tv,tv->t", p, difference)
        # Both are rounded to float32, so identical models may come out a hair below zero.
        return np.maximum(summed, 0.0)


def write_exchange(path: Path, logits: Float32, normalizers: Float32 | None = None) -> None:
    """Overwrite the exchange with ``logits``, less ``normalizers`` where they are given.

    Written and not mapped: a page that is written for the first time through a mapping costs more
    than its copy.
    """
    mode = "r+b" if path.is_file() else "wb"
    with path.open(mode) as file, np.errstate(invalid="ignore"):
        for part in _parts(logits.shape):
            rows = np.ascontiguousarray(logits[part])
            if normalizers is not None:
                rows = np.subtract(rows, normalizers[part, None], out=_work(rows.shape)[0])
            file.write(rows.data)
        file.truncate()


def read_exchange(path: Path, shape: tuple[int, int]) -> Float32:
    """Map the logits that the exchange holds, of ``shape``.

    Raises:
        ModelError: they are of another vocabulary.
    """
    held = path.stat().st_size if path.is_file() else 0
    if held != shape[0] * shape[1] * np.dtype(np.float32).itemsize:
        raise ModelError(
            f"the vocabulary differs: {shape[1]} tokens here, "
            f"{held // (4 * shape[0])} in the baseline"
        )
    return np.asarray(np.memmap(path, dtype=np.float32, mode="r", shape=shape))


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of an array of ``shape`` part by part."""
    step = _part_rows(shape[1])
    for begin in range(0, shape[0], step):
        yield slice(begin, begin + step)


def _part_rows(vocabulary: int) -> int:
    return max(1, _PART_VALUES // vocabulary)


@functools.lru_cache(maxsize=1)
def _memory(vocabulary: int) -> Float32:
    return np.empty((2, _part_rows(vocabulary), vocabulary), np.float32)


def _work(shape: tuple[int, ...]) -> Float32:
    """Return two arrays for a part: always the same, as fresh memory costs a fault every 4 KiB."""
    return _memory(shape[1])[:, : shape[0]]
