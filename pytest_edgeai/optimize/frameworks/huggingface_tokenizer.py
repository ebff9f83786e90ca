"""The tokenizer of a Hugging Face directory, read from ``tokenizer.json`` by ``tokenizers``.

Source: https://huggingface.co/docs/tokenizers/api/tokenizer (``Tokenizer.from_file``, ``encode``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError

TOKENIZER = "tokenizer.json"
_INSTALL = "Run: pip install tokenizers"
_OTHERS = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


def tokenize_directory(path: Path, text: str) -> NDArray[np.int32]:
    """Return the token ids of plain text, without special tokens added around it.

    A special token that is spelled out in the text (``</s>``) is text like any other; padding and
    truncation that the file may ask for are switched off.

    Args:
        path: the directory that holds ``tokenizer.json``.
        text: what to tokenize.

    Returns:
        int32 ids of shape ``(tokens,)``.

    Raises:
        ModelError: there is no ``tokenizer.json``, it is damaged, or the package ``tokenizers`` is
            not installed.
    """
    file = path / TOKENIZER
    if not file.is_file():
        raise _missing(path)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ModelError(
            f"reading {TOKENIZER} needs the package tokenizers", where=str(path), advice=_INSTALL
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
    except MemoryError:
        raise
    except Exception as error:  # the package raises plain Exception for whatever it cannot read
        raise ModelError(
            f"the tokenizer is broken: {' '.join(str(error).split())[:160]}",
            where=str(file),
            advice="The file is truncated or damaged: download or export it again",
        ) from None
    return np.asarray(ids, dtype=np.int32)


def _missing(path: Path) -> ModelError:
    other = next((name for name in _OTHERS if (path / name).is_file()), "")
    if other:
        return ModelError(
            f"the directory holds {other} and no {TOKENIZER}",
            where=str(path),
            advice="Save it once with transformers' AutoTokenizer (use_fast=True), "
            "or give token ids as data",
        )
    return ModelError(
        "the directory holds no tokenizer, so the model takes token ids only",
        where=str(path),
        allowed=TOKENIZER,
        advice="Give token ids as data, or add the model's tokenizer.json",
    )
