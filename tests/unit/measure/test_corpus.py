from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.corpus import (
    BOOTSTRAP_RESAMPLES,
    GROUPS,
    CorpusMetric,
    Summary,
    corpus_quality,
    f1,
    figure_of,
)
from pytest_edgeai.measure.quality import quality_arrays, quality_from_arrays
from pytest_edgeai.records import LEFT_OUT

Array = NDArray[Any]


def one_hot(predicted: list[int], classes: int = 3) -> Array:
    return np.eye(classes, dtype=np.float32)[predicted]


def by_hand(truth: list[int], predicted: list[int]) -> float:
    found = []
    for name in set(truth):
        right = sum(t == p == name for t, p in zip(truth, predicted, strict=True))
        found.append(2 * right / (truth.count(name) + predicted.count(name)))
    return sum(found) / len(found)


pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@given(pairs)
def test_f1_is_the_mean_over_the_classes_of_the_labels(rows: list[tuple[int, int]]) -> None:
    truth, predicted = [t for t, _ in rows], [p for _, p in rows]
    labels = np.array(truth)
    expected = by_hand(truth, predicted)
    assert f1({"y": one_hot(predicted)}, labels) == pytest.approx(expected)
    assert f1({"y": np.array(predicted)}, labels) == pytest.approx(expected)
    words = np.array(["ant", "bee", "cat"])
    assert f1({"y": words[predicted]}, words[labels]) == pytest.approx(expected)


@given(pairs, st.randoms(use_true_random=False))
def test_a_resample_is_the_figure_of_the_rows_drawn(
    rows: list[tuple[int, int]], random: Any
) -> None:
    labels = np.array([t for t, _ in rows])
    outputs = {"y": one_hot([p for _, p in rows])}
    times = np.array([[random.randint(0, 3) for _ in rows] for _ in range(3)])
    times[:, 0] += 1
    plain = CorpusMetric(f1.figure).summary(outputs, labels, "f1").figures(times)
    assert f1.summary(outputs, labels, "f1").figures(times) == pytest.approx(plain)


def test_a_broken_answer_is_wrong_and_is_no_class() -> None:
    scores = one_hot([0, 1, 2])
    scores[1, 0] = np.nan
    assert f1({"y": scores}, np.arange(3)) == pytest.approx(2 / 3)


def test_both_models_are_resampled_alike() -> None:
    labels = np.arange(60) % 3
    outputs = {"y": one_hot(((labels + (np.arange(60) % 7 == 0)) % 3).tolist())}
    done: list[float] = []
    quality = corpus_quality(f1, "f1", outputs, outputs, labels, progress=done.append)
    assert quality.kind == "corpus"
    assert quality.resamples["baseline"].shape == (1 + GROUPS,)
    assert (quality.resamples["baseline"] == quality.resamples["candidate"]).all()
    assert quality.resamples["baseline"][0] == f1(outputs, labels)
    assert quality.resamples["baseline"][1:].std() > 0
    assert done[-1] == 1.0
    again = corpus_quality(f1, "f1", outputs, outputs, labels)
    assert (again.resamples["baseline"] == quality.resamples["baseline"]).all()


def test_each_sample_is_left_out_once() -> None:
    def draws(outputs: Any, labels: Array) -> Summary:
        def figures(times: Array) -> Array:
            drawn.append(times)
            return np.asarray(times.sum(axis=1), dtype=np.float64)

        return Summary(figures)

    drawn: list[Array] = []
    labels = np.zeros(120, dtype=int)
    metric = CorpusMetric(figure_of(draws), draws)
    quality = corpus_quality(metric, "count", {"y": labels}, {"y": labels}, labels)
    assert [times.shape for times in drawn] == [(1, 120), (1, 120), (GROUPS, 120), (GROUPS, 120)]
    assert set(drawn[2].ravel().tolist()) == {0, 1}
    assert ((drawn[2] == 0).sum(axis=0) == 1).all()
    assert (drawn[2] == drawn[3]).all()
    assert set((drawn[2] == 0).sum(axis=1).tolist()) == {2, 3}
    left_out = 1 - quality.resamples["baseline"] / 120
    assert quality.resamples[LEFT_OUT] == pytest.approx(left_out)


def test_fewer_samples_than_groups_are_drawn_with_replacement() -> None:
    labels = np.arange(GROUPS - 1) % 2
    quality = corpus_quality(f1, "f1", {"y": labels}, {"y": labels}, labels)
    assert LEFT_OUT not in quality.resamples
    assert quality.resamples["baseline"].shape == (1 + BOOTSTRAP_RESAMPLES,)


def test_single_answers_are_kept_for_classes_and_slices() -> None:
    labels = np.arange(30) % 3
    other = {"y": one_hot([0] * 30)}
    slices = {"half": np.arange(30) // 15}
    quality = corpus_quality(
        f1, "f1", {"y": one_hot(labels.tolist())}, other, labels, slices=slices
    )
    parts = quality.parts
    assert parts is not None
    assert (parts.metric, parts.kind) == ("accuracy", "proportion")
    assert parts.candidate_scores.tolist() == (labels == 0).astype(float).tolist()
    assert parts.slices["half"].tolist() == slices["half"].tolist()
    read = quality_from_arrays("f1", "corpus", quality_arrays(quality))
    assert read.parts is not None
    assert read.parts.metric == "accuracy"
    assert read.parts.slices["half"].tolist() == slices["half"].tolist()
    assert (read.resamples["candidate"] == quality.resamples["candidate"]).all()


def test_a_plain_callable_is_called_on_the_rows_drawn() -> None:
    def share(outputs: Any, labels: Array) -> float:
        return float((outputs["y"] == labels).mean())

    labels = np.arange(40) % 2
    quality = corpus_quality(share, "share", {"y": labels}, {"y": np.zeros(40, int)}, labels)
    assert quality.resamples["baseline"].tolist() == [1.0] * (1 + BOOTSTRAP_RESAMPLES)
    assert quality.resamples["candidate"][0] == 0.5
    assert quality.resamples["candidate"][1:].mean() == pytest.approx(0.5, abs=0.02)
    assert quality.parts is None


def raising(outputs: Any, labels: Array) -> float:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (raising, 'metric "mine" raised RuntimeError: no'),
        (lambda o, y: float("nan"), "returned nan for the whole set; allowed: one finite number"),
        (lambda o, y: -1.0, "returned -1.0 for the whole set"),
        (lambda o, y: np.ones(3), r"returned shape \(3,\) for the whole set"),
        (lambda o, y: "good", "returned 'good' for the whole set"),
    ],
)
def test_what_is_no_figure_is_refused(metric: Any, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        corpus_quality(metric, "mine", {"y": np.ones(3)}, {"y": np.ones(3)}, np.arange(3))
