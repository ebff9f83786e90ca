from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from pytest_edgeai.errors import ModelError
from pytest_edgeai.worker.language import load_ids
from pytest_edgeai.worker.token_scores import (
    divergence,
    read_exchange,
    score_block,
    write_exchange,
)


def logits(seed: int, shape: tuple[int, int] = (16, 96), scale: float = 4.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@given(st.integers(0, 10_000), st.floats(0.1, 40.0))
def test_scores_are_those_of_a_plain_softmax_in_double_precision(seed: int, scale: float) -> None:
    values = logits(seed, scale=scale)
    tokens = np.random.default_rng(seed).integers(0, 96, 16).astype(np.int32)
    scores = score_block(values, tokens)
    plain = -special.log_softmax(values.astype(np.float64), axis=1)[np.arange(15), tokens[1:]]
    np.testing.assert_allclose(scores.nll, plain, rtol=1e-5, atol=1e-4)
    assert scores.likeliest.tolist() == values[:-1].argmax(axis=1).tolist()
    assert (scores.nan, scores.infinite) == (0, 0)


@given(st.integers(0, 10_000))
def test_divergence_is_that_of_the_definition(seed: int) -> None:
    p, q = logits(seed), logits(seed + 1)
    expected = special.rel_entr(
        special.softmax(p.astype(np.float64), axis=1), special.softmax(q.astype(np.float64), axis=1)
    ).sum(axis=1)
    np.testing.assert_allclose(divergence(p, q), expected, rtol=1e-4, atol=1e-5)


def test_equal_models_do_not_diverge() -> None:
    np.testing.assert_allclose(divergence(logits(1), logits(1) + 3), 0.0, atol=1e-5)


def test_what_is_no_number_is_counted() -> None:
    values = logits(2)
    values[3, 4] = np.nan
    values[5, 6] = np.inf
    scores = score_block(values, np.zeros(16, dtype=np.int32))
    assert (scores.nan, scores.infinite) == (1, 1)


def test_the_exchange_holds_one_block_and_no_more(tmp_path: Path) -> None:
    place = tmp_path / "exchange"
    for seed in (1, 2):
        write_exchange(place, logits(seed))
        np.testing.assert_array_equal(read_exchange(place, (16, 96)), logits(seed))
    assert place.stat().st_size == 16 * 96 * 4
    with pytest.raises(ModelError, match="vocabulary differs: 90 tokens here, 96 in the baseline"):
        read_exchange(place, (16, 90))


def test_ids_are_int32_blocks(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.zeros(4, dtype=np.int32))
    with pytest.raises(ModelError, match="blocks"):
        load_ids(str(tmp_path / "ids.npy"))
