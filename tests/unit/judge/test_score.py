"""The figure of one side, of every kind of metric."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import ArrayLike

from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.score import score
from pytest_edgeai.records import PairedQuality, Threshold
from pytest_edgeai.samples import QualityKind

UNSET = Threshold(None, "more_than")
RETAIN = Threshold(0.9, "more_than")


def paired(
    kind: QualityKind, baseline: ArrayLike, candidate: ArrayLike, **rest: Any
) -> PairedQuality:
    sides = (np.asarray(baseline, np.float64), np.asarray(candidate, np.float64))
    return PairedQuality("metric", kind, *sides, None, **rest)


def corpus(baseline: float, candidate: float, samples: int = 600) -> PairedQuality:
    unknown = np.full(samples, np.nan)
    generator = np.random.default_rng(0)
    resamples = {
        side: np.concatenate([[figure], figure + generator.normal(0, 0.01, 100)])
        for side, figure in (("baseline", baseline), ("candidate", candidate))
    }
    return paired("corpus", unknown, unknown, resamples=resamples)


def embedding(**means: float) -> PairedQuality:
    cosines = {name: np.linspace(2 * mean - 1, 1, 40) for name, mean in means.items()}
    return paired("embedding", np.ones(40), np.full(40, 0.5), cosines=cosines)


@pytest.mark.parametrize(
    ("quality", "baseline", "candidate"),
    [
        (paired("proportion", [1, 1, 0, 0], [1, 0, 0, 0]), 0.5, 0.25),
        (paired("loss", [1, 2], [2, 4]), 1.5, 3.0),
        (paired("perplexity", [1, 3], [2, 4]), math.exp(2), math.exp(3)),
        (corpus(0.9259, 0.8156), 0.9259, 0.8156),
        (embedding(sentence=0.98), 1.0, 0.98),
        (embedding(sentence=0.98, token=0.91, image=0.95), 1.0, 0.91),
    ],
)
def test_each_side_has_the_figure_of_its_metric(
    quality: PairedQuality, baseline: float, candidate: float
) -> None:
    assert score(quality, "baseline") == pytest.approx(baseline)
    assert score(quality, "candidate") == pytest.approx(candidate)


@pytest.mark.parametrize(
    "quality",
    [
        paired("proportion", [1, 1, 0, 1], [1, 0, 0, 1]),
        paired("loss", [1, 2], [2, 4]),
        paired("perplexity", [1, 3, 2], [2, 4, 2]),
        corpus(0.9259, 0.8156),
    ],
    ids=lambda quality: str(quality.kind),
)
def test_it_is_what_the_verdict_states(quality: PairedQuality) -> None:
    details = judge_accuracy(quality, RETAIN).details
    assert details["baseline_metric"] == score(quality, "baseline")
    assert details["candidate_metric"] == score(quality, "candidate")


def test_an_embeddings_is_what_the_verdict_observes() -> None:
    quality = embedding(sentence=0.98, token=0.91)
    assert judge_accuracy(quality, UNSET).observed == score(quality, "candidate")


@pytest.mark.parametrize("kind", get_args(QualityKind))
def test_nothing_was_evaluated(kind: QualityKind) -> None:
    assert math.isnan(score(paired(kind, [], []), "baseline"))
    assert math.isnan(score(paired(kind, [], []), "candidate"))


def test_a_perplexity_beyond_every_number_is_infinite() -> None:
    assert score(paired("perplexity", [1.0], [1000.0]), "candidate") == math.inf
