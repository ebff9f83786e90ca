"""Attacks on membership: what a model's answer to a sample says about having been trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.metrics import class_output
from pytest_edgeai.measure.quality import Outputs

LOSS, MODIFIED_ENTROPY = "loss", "modified entropy"
_SMALLEST = 1e-12
"""Probabilities are kept this far from 0 and 1, where a logarithm has no value; float32 answers are
coarser than that."""
_SUM_TOLERANCE = 1e-2
"""How far the sum of a sample's probabilities may lie from 1: float16 and 8-bit softmax round."""


def attack_scores(
    outputs: Outputs, labels: NDArray[Any], *, are_probabilities: bool | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return attack to a score per sample, more where the sample looks like a member.

    * ``loss``: ``log p_y``, the negated cross-entropy. Its threshold attack is that of Yeom,
      Giacomelli, Fredrikson and Jha (2018), "Privacy risk in machine learning", section 3.
    * ``modified entropy``: Song and Mittal (2021), "Systematic evaluation of privacy risks of
      machine learning models", equation 6, negated:
      ``(1 - p_y) log p_y + sum over i != y of p_i log(1 - p_i)``.

    Args:
        outputs: output name to array; one has shape ``(samples, classes)``.
        labels: integers, shape ``(samples,)``.
        are_probabilities: whether that output holds probabilities, and not logits; ``None`` looks.

    Raises:
        ModelError: no output holds one figure per class, or one of them is not finite.
    """
    name = class_output(outputs, labels)
    figures = np.asarray(outputs[name])
    if figures.ndim != 2:
        raise ModelError(f'output "{name}" holds classes, and not one figure for each of them')
    figures = figures.astype(np.float64)
    if not np.isfinite(figures).all():
        raise ModelError(f'output "{name}" is not finite')
    if are_probabilities is None:
        are_probabilities = holds_probabilities(figures)
    chances = _normalized(figures) if are_probabilities else softmax(figures)
    rows = np.arange(len(chances))
    chosen = np.asarray(labels, dtype=np.int64)
    clipped = np.clip(chances, _SMALLEST, 1 - _SMALLEST)
    right = clipped[rows, chosen]
    others = chances * np.log1p(-clipped)
    others[rows, chosen] = 0.0
    return {
        LOSS: np.log(right),
        MODIFIED_ENTROPY: (1 - right) * np.log(right) + others.sum(axis=1),
    }


def holds_probabilities(figures: NDArray[np.float64]) -> bool:
    """Return whether every row is a distribution: from 0 to 1, with a sum of 1."""
    in_range = (figures >= -_SUM_TOLERANCE).all() and (figures <= 1 + _SUM_TOLERANCE).all()
    return bool(in_range and (np.abs(figures.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of logits, shape ``(samples, classes)``."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _normalized(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.clip(figures, 0.0, None)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))


def negated_losses(losses: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """Return the attack of Yeom et al. on losses that a metric gave, shape ``(samples,)``."""
    return {LOSS: -np.asarray(losses, dtype=np.float64)}


def chosen_samples(available: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Return which samples are taken, in order: all, or ``wanted`` of them at random."""
    if wanted >= available:
        return np.arange(available, dtype=np.int64)
    drawn = np.random.default_rng(seed).choice(available, size=wanted, replace=False)
    return np.sort(drawn).astype(np.int64)
