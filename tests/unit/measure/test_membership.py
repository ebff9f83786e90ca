"""Attacks on membership, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.membership import (
    LOSS,
    MODIFIED_ENTROPY,
    attack_scores,
    chosen_samples,
    holds_probabilities,
    softmax,
)

CHANCES = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
LABELS = np.asarray([0, 2])


def test_both_attacks_by_their_formulas() -> None:
    found = attack_scores({"p": CHANCES}, LABELS)
    assert found[LOSS] == pytest.approx(np.log([0.7, 0.3]))
    expected = [
        0.3 * np.log(0.7) + 0.2 * np.log(0.8) + 0.1 * np.log(0.9),
        0.7 * np.log(0.3) + 0.1 * np.log(0.9) + 0.6 * np.log(0.4),
    ]
    assert found[MODIFIED_ENTROPY] == pytest.approx(expected)


def test_logits_give_the_scores_of_their_probabilities() -> None:
    logits = np.log(CHANCES) + np.asarray([[5.0], [-3.0]])
    assert not holds_probabilities(logits)
    for attack, values in attack_scores({"p": CHANCES}, LABELS).items():
        assert attack_scores({"l": logits}, LABELS)[attack] == pytest.approx(values)


def test_certain_answers_stay_finite() -> None:
    certain = np.asarray([[1.0, 0.0], [1.0, 0.0]], np.float32)
    for values in attack_scores({"p": certain}, np.asarray([0, 1])).values():
        assert np.isfinite(values).all()
        assert values[0] > values[1]


def test_large_logits_stay_finite() -> None:
    assert softmax(np.asarray([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"p": np.asarray([[np.nan, 1.0], [0.0, 1.0]])},
        {"classes": np.asarray([0, 1])},
        {"a": CHANCES, "b": CHANCES},
    ],
)
def test_answers_without_probabilities_are_refused(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError):
        attack_scores(outputs, np.asarray([0, 1]))


def test_samples_are_chosen_once_and_in_order() -> None:
    chosen = chosen_samples(1000, 50, 0)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 50
    assert chosen.tolist() == chosen_samples(1000, 50, 0).tolist()
    assert chosen_samples(5, 50, 0).tolist() == [0, 1, 2, 3, 4]
