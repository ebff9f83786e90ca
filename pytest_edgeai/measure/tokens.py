"""The text that language models are judged on: token ids, cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset, load_arrays
from pytest_edgeai.records import LanguageModelFacts
from pytest_edgeai.specification import TEXT_SUFFIX, DataSource

INPUT_IDS = "input_ids"
DEFAULT_CONTEXT_TOKENS = 512
DEFAULT_PROMPT_TOKENS = 128
FEWEST_TOKENS = 4

Tokenize = Callable[[Path], Sequence[int]]
"""Returns the token ids of a UTF-8 text file."""


def check_text(source: DataSource) -> None:
    """Check that a text file holds text.

    Raises:
        ModelError: it is empty, not UTF-8, or cannot be read.
    """
    path = source.path
    assert path is not None
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(
            f'"{path.name}" is not UTF-8 (byte {error.start})',
            where=source.where,
            allowed="plain UTF-8 text",
        ) from None
    except OSError as error:
        raise ModelError(
            f'"{path.name}" cannot be read ({error.strerror})', where=source.where
        ) from None
    if not text.strip():
        raise ModelError(
            f'"{path.name}" holds no text', where=source.where, allowed="plain UTF-8 text"
        )


def load_blocks(
    source: DataSource,
    facts: LanguageModelFacts | None,
    *,
    directory: Path,
    context_length: int | None,
    context_where: str,
    tokenize: Tokenize,
) -> Dataset:
    """Read token ids and cut them into blocks of equal length.

    A row of two-dimensional ids is a text of its own and is cut by itself; what does not fill a
    block at the end of a text is left out.

    Args:
        source: ``.npz`` with an integer array ``input_ids`` of shape ``(tokens,)`` or ``(texts,
            tokens)``, a ``.txt`` file, or a callable that returns what such a ``.npz`` holds.
        facts: what the model's metadata say.
        directory: import path of callables.
        context_length: tokens of a block; ``None`` for the rows' length, or, for a text without
            rows, 512 or what the model can take.
        context_where: the manifest's key of ``context_length``, for errors.
        tokenize: the model's tokenizer.

    Returns:
        A data set whose only array, ``input_ids``, is int32 of shape ``(blocks, context_length)``.

    Raises:
        ModelError: no such array, ids that the model does not know, or less than one block.
    """
    ids = _read_ids(source, directory, tokenize)
    longest = facts.context_length if facts else None
    if context_length is None and ids.ndim == 1:
        context_length = min(DEFAULT_CONTEXT_TOKENS, longest or DEFAULT_CONTEXT_TOKENS, len(ids))
    length = context_length or ids.shape[1]
    where = context_where if context_length else source.where
    if longest is not None and length > longest:
        raise ModelError(
            f"blocks of {length} tokens, and the model was made for {longest}",
            where=where,
            allowed=f"context_length = {longest} or less",
        )
    if length < FEWEST_TOKENS or ids.shape[-1] < length:
        raise ModelError(
            f"texts of {ids.shape[-1]} tokens make no block of {length}",
            where=source.where,
            allowed=f"texts of at least one block of {FEWEST_TOKENS} tokens or more",
        )
    _check_range(ids, facts, source.where)
    rows = ids.reshape(1, -1) if ids.ndim == 1 else ids
    pieces = rows.shape[1] // length
    blocks = rows[:, : pieces * length].reshape(-1, length).astype(np.int32)
    return Dataset({INPUT_IDS: blocks}, None, None, len(blocks), source.where)


def prompt_tokens(chosen: int | None, context_tokens: int, where: str) -> int:
    """Return how many tokens precede the timed ones.

    Raises:
        ModelError: the prompt and one more token do not fit into the context.
    """
    if chosen is None:
        return min(DEFAULT_PROMPT_TOKENS, context_tokens // 2)
    if chosen >= context_tokens:
        raise ModelError(
            f"a prompt of {chosen} tokens in blocks of {context_tokens}",
            where=where,
            allowed=f"1 to {context_tokens - 1}",
        )
    return chosen


def _read_ids(source: DataSource, directory: Path, tokenize: Tokenize) -> NDArray[Any]:
    if source.path is not None and source.path.suffix == TEXT_SUFFIX:
        check_text(source)
        ids = np.asarray(tokenize(source.path), dtype=np.int64)
        if ids.size == 0:
            raise ModelError("the text has no token", where=source.where)
        return ids
    arrays = load_arrays(source, directory)
    if INPUT_IDS not in arrays:
        raise ModelError(
            f"holds {', '.join(arrays) or 'nothing'}",
            where=source.where,
            allowed=f'an integer array "{INPUT_IDS}" of shape (tokens,) or (texts, tokens)',
        )
    ids = arrays[INPUT_IDS]
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or ids.size == 0:
        raise ModelError(
            f'array "{INPUT_IDS}" is {ids.dtype} of shape {ids.shape}',
            where=source.where,
            allowed="integers of shape (tokens,) or (texts, tokens)",
        )
    return ids


def _check_range(ids: NDArray[Any], facts: LanguageModelFacts | None, where: str) -> None:
    known = (facts.vocabulary if facts else None) or np.iinfo(np.int32).max
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= known:
        raise ModelError(
            f"token id {low if low < 0 else high} is not in the model's vocabulary",
            where=where,
            allowed=f"0 to {known - 1}",
        )
