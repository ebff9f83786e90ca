from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.embedding import (
    MOST_COMPARED,
    check_groups,
    check_neighbors,
    embedding,
    embedding_quality,
)
from pytest_edgeai.measure.quality import quality_arrays, quality_from_arrays
from pytest_edgeai.records import PairedQuality

Array = NDArray[Any]


def compared(
    baseline: Array, candidate: Array, labels: Array | None = None, neighbors: int = 3
) -> PairedQuality:
    return embedding_quality(
        embedding, "cosine", {"e": baseline}, {"e": candidate}, labels, neighbors=neighbors
    )


def vectors(n: int = 40, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def test_the_same_embedding_has_a_cosine_of_one_at_any_length() -> None:
    quality = compared(vectors(), 1e30 * vectors().astype(np.float64))
    assert quality.cosines["cosine"] == pytest.approx(np.ones(40))
    assert quality.candidate_scores.tolist() == [1.0] * 40
    assert quality.parts is None


@given(st.floats(0, np.pi))
def test_the_cosine_is_that_of_the_angle(angle: float) -> None:
    turned = np.array([[np.cos(angle), np.sin(angle)]] * 2)
    quality = compared(np.array([[1.0, 0.0]] * 2), turned)
    assert quality.cosines["cosine"] == pytest.approx([np.cos(angle)] * 2, abs=1e-12)


def test_what_the_candidate_has_no_direction_for_counts_as_unrelated() -> None:
    broken = vectors()
    broken[0], broken[1, 3], broken[2, 0] = 0.0, np.nan, np.inf
    assert compared(vectors(), broken).cosines["cosine"][:4] == pytest.approx([0, 0, 0, 1])


def test_every_output_is_compared_by_itself() -> None:
    first = {"pooled": vectors(), "tokens": np.stack([vectors(seed=1), vectors(seed=2)], axis=1)}
    dead = {"pooled": vectors(), "tokens": np.zeros((40, 2, 8), np.float32)}
    quality = embedding_quality(embedding, "cosine", first, dead, None)
    assert {name: float(c.mean()) for name, c in quality.cosines.items()} == pytest.approx(
        {"cosine": 1.0, "tokens": 0.0}
    )


def test_recall_is_whether_one_of_the_nearest_is_of_the_group() -> None:
    groups = np.repeat(np.arange(5), 4)
    centers = np.eye(8)[groups] * 5
    near = centers + np.random.default_rng(0).normal(size=centers.shape) * 0.1
    parts = compared(near, np.roll(near, 2, axis=0), groups, neighbors=1).parts
    assert parts is not None
    assert (parts.metric, parts.kind, parts.classes) == ("recall@1", "proportion", None)
    assert parts.baseline_scores.all()
    paired = compared(near, near, np.maximum(np.arange(20), 1)).parts
    assert paired is not None
    assert len(paired.baseline_scores) == 2, "no other sample has another one of its group"


def test_the_neighbors_kept_are_those_of_a_full_search() -> None:
    one, other = vectors(700), vectors(700) + 0.5 * vectors(700, seed=3)
    quality = compared(one, other, neighbors=5)

    def nearest(side: Array) -> list[set[int]]:
        unit = side / np.linalg.norm(side, axis=1, keepdims=True)
        similar = unit @ unit.T
        np.fill_diagonal(similar, -2)
        return [set(row) for row in np.argsort(-similar, axis=1)[:, :5].tolist()]

    expected = [len(a & b) / 5 for a, b in zip(nearest(one), nearest(other), strict=True)]
    assert quality.candidate_scores == pytest.approx(expected)


def test_it_is_kept_as_evidence() -> None:
    quality = compared(vectors(), vectors(seed=1), np.arange(40) // 2)
    read = quality_from_arrays("cosine", "embedding", quality_arrays(quality))
    assert (read.cosines["cosine"] == quality.cosines["cosine"]).all()
    assert read.parts is not None
    assert quality.parts is not None
    assert (read.parts.candidate_scores == quality.parts.candidate_scores).all()


def test_a_single_sample_has_no_neighbor() -> None:
    assert compared(vectors(1), vectors(1)).candidate_scores.tolist() == [1.0]


BROKEN = vectors()
BROKEN[7, 2] = np.nan
EMPTY = vectors()
EMPTY[9] = 0


@pytest.mark.parametrize(
    ("baseline", "labels", "expected"),
    [
        ({"e": BROKEN}, None, "the baseline's embedding of sample 7 is not finite"),
        ({"e": EMPTY}, None, "the baseline's embedding of sample 9 is a zero vector"),
        ({"e": vectors()[:, 0]}, None, "no output could be the embedding"),
        ({"e": vectors(), "f": vectors()}, None, "several outputs could be the embedding"),
        ({"e": vectors()}, np.zeros((40, 2), int), r"labels are int64 of shape \(40, 2\); allowed"),
        ({"e": vectors()}, np.zeros(40), "labels are float64"),
        ({"e": vectors()}, np.arange(40), "no label occurs twice, so that no sample has"),
        ({"e": vectors()}, np.arange(40).astype("U"), "no label occurs twice"),
    ],
)
def test_what_cannot_be_compared(
    baseline: dict[str, Array], labels: Array | None, expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        embedding_quality(embedding, "cosine", baseline, baseline, labels)


def test_groups_are_sought_among_the_samples_compared() -> None:
    late = np.arange(MOST_COMPARED + 2)
    late[-1] = 0
    with pytest.raises(ModelError, match="no label occurs twice among the first 10000 samples"):
        check_groups(late)
    late[1] = 0
    check_groups(late)


@pytest.mark.parametrize(
    ("neighbors", "samples", "expected"),
    [
        (698, 700, ""),
        (699, 700, "699 neighbors, and the evaluation data has 700 samples; every.*allowed: 1 to"),
        (MOST_COMPARED - 2, MOST_COMPARED + 5, ""),
        (MOST_COMPARED, 20_000, "20000 samples, of which the first 10000 are compared"),
        (1, 3, ""),
        (1, 2, "allowed: no value: 3 samples or more are needed"),
    ],
)
def test_neighbors_leave_some_sample_out(neighbors: int, samples: int, expected: str) -> None:
    if not expected:
        check_neighbors(neighbors, samples, "here")
        return
    with pytest.raises(ModelError, match=f"^here: .*{expected}"):
        check_neighbors(neighbors, samples, "here")


def raising(outputs: Any, labels: Any) -> Array:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (raising, 'metric "mine" raised RuntimeError: no'),
        (lambda o, y: np.ones(40), r'metric "mine" returned shape \(40,\); allowed: one embedding'),
        (lambda o, y: np.ones((40, 1)), "at least two of them"),
    ],
)
def test_a_metric_of_ones_own_gives_embeddings(metric: Any, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        embedding_quality(metric, "mine", {"e": vectors()}, {"e": vectors()}, None)


def test_embeddings_of_two_sizes_have_no_angle() -> None:
    with pytest.raises(ModelError, match="gives the baseline 8 features and the candidate 4"):
        compared(vectors(), vectors()[:, :4])
