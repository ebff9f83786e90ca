from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset
from pytest_edgeai.measure.tokens import check_text, load_blocks, prompt_tokens
from pytest_edgeai.records import LanguageModelFacts
from pytest_edgeai.specification import DataSource

FACTS = LanguageModelFacts(family="llama", context_length=64, vocabulary=100)


def source(path: Path) -> DataSource:
    return DataSource(path, None, "edgeai.toml [models.m] data")


def never(path: Path) -> Sequence[int]:
    raise AssertionError(f"{path} was tokenized")


def read(path: Path, context_length: int | None = None, tokenize: Any = never) -> Dataset:
    return load_blocks(
        source(path),
        FACTS,
        directory=path.parent,
        context_length=context_length,
        context_where="edgeai.toml [models.m] context_length",
        tokenize=tokenize,
    )


def ids(tmp_path: Path, array: Any, name: str = "input_ids") -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **{name: array})
    return path


def test_a_stream_is_cut_into_blocks(tmp_path: Path) -> None:
    path = ids(tmp_path, np.arange(70, dtype=np.int64))
    blocks = read(path, 32).arrays["input_ids"]
    assert blocks.dtype == np.int32
    np.testing.assert_array_equal(blocks, np.arange(64).reshape(2, 32))


def test_a_stream_takes_what_the_model_was_made_for(tmp_path: Path) -> None:
    assert read(ids(tmp_path, np.zeros(200, dtype=np.int32))).arrays["input_ids"].shape == (3, 64)
    assert read(ids(tmp_path, np.zeros(40, dtype=np.int32))).arrays["input_ids"].shape == (1, 40)


def test_rows_are_texts_of_their_own(tmp_path: Path) -> None:
    rows = np.arange(60, dtype=np.uint8).reshape(2, 30)
    path = ids(tmp_path, rows)
    np.testing.assert_array_equal(read(path).arrays["input_ids"], rows)
    cut = read(path, 8).arrays["input_ids"]
    assert cut.shape == (6, 8)
    np.testing.assert_array_equal(cut[3], rows[1, :8])


def test_text_goes_through_the_models_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "held-out.txt"
    path.write_text("some words", encoding="utf-8")
    blocks = read(path, 5, tokenize=lambda text: list(text.read_bytes()[:10] * 0 or range(10)))
    np.testing.assert_array_equal(blocks.arrays["input_ids"], np.arange(10).reshape(2, 5))


@pytest.mark.parametrize(
    ("array", "context_length", "what"),
    [
        (np.zeros(100, dtype=np.int32), 65, "blocks of 65 tokens, and the model was made for 64"),
        (np.zeros((2, 65), dtype=np.int32), None, "blocks of 65 tokens"),
        (np.zeros(10, dtype=np.int32), 20, "texts of 10 tokens make no block of 20"),
        (np.zeros((3, 2), dtype=np.int32), None, "make no block of 2"),
        (np.full(30, 100), 20, "token id 100 is not in the model's vocabulary"),
        (np.full(30, -1), 20, "token id -1"),
        (np.zeros(30, dtype=np.float32), 20, "float32 of shape"),
        (np.zeros((1, 1, 30), dtype=np.int32), 20, "int32 of shape"),
    ],
)
def test_ids_that_cannot_be_used_are_one_line(
    tmp_path: Path, array: Any, context_length: int | None, what: str
) -> None:
    with pytest.raises(ModelError, match=what) as error:
        read(ids(tmp_path, array), context_length)
    assert error.value.where.startswith("edgeai.toml [models.m] ")
    assert error.value.allowed


def test_another_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds tokens") as error:
        read(ids(tmp_path, np.zeros(30, dtype=np.int32), name="tokens"))
    assert "input_ids" in error.value.allowed


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "holds no text"), (b" \n\t", "holds no text"), (b"ok \xff\xfe", "not UTF-8 .byte 3.")],
)
def test_text_must_be_text(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=what):
        check_text(source(path))
    with pytest.raises(ModelError, match=what):
        read(path)


def test_text_without_a_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("words", encoding="utf-8")
    with pytest.raises(ModelError, match="no token"):
        read(path, tokenize=lambda text: [])


def test_the_prompt_leaves_room_for_one_more_token() -> None:
    assert prompt_tokens(None, 512, "") == 128
    assert prompt_tokens(None, 64, "") == 32
    assert prompt_tokens(63, 64, "") == 63
    with pytest.raises(ModelError, match="a prompt of 64 tokens in blocks of 64"):
        prompt_tokens(64, 64, "edgeai.toml")
