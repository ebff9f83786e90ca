"""How far two sets of answers to the same samples lie apart, in units of the answers' spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
FloatArray: TypeAlias = NDArray[np.float64]

RESOLUTION_STEPS = 4
"""Units in the last place of the largest answer that two orders of one sum may differ by."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """The class that each sample was given.

    Attributes:
        output: the output that decides.
        classes: column numbers or labels, shape ``(samples,)``; -1 for scores that hold NaN.
        margins: how far the highest score lies above the second, float64, shape ``(samples,)``; NaN
            where the answer has no scores, or none that are numbers.
    """

    output: str
    classes: NDArray[Any]
    margins: FloatArray


def is_discrete(array: NDArray[Any]) -> bool:
    """Return whether answers are names, whole numbers or truth values, which are equal or not."""
    return array.dtype.kind not in "fc"


def spread(array: NDArray[Any]) -> float:
    """Return the standard deviation of all finite numbers of an output, over samples and elements.

    An output that never varies has its largest magnitude for a spread, or 1 where that is 0, so
    that a difference can always be expressed in it.

    Args:
        array: numbers, shape ``(samples, ...)``; read sample by sample, so it may be a mapped file.
    """
    count, total, squares, largest = 0, 0.0, 0.0, 0.0
    origin: float | None = None
    for row in array:
        finite = np.asarray(row, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            # Sums of what is left after a shift keep their digits where the mean is far from 0.
            origin = float(finite.reshape(-1)[0]) if origin is None else origin
            count += finite.size
            total += float((finite - origin).sum())
            squares += float(((finite - origin) ** 2).sum())
            largest = max(largest, float(np.abs(finite).max()))
    variance = squares / count - (total / count) ** 2 if count else 0.0
    # What rounding alone leaves of a constant is no spread.
    if variance > (1e-7 * largest) ** 2:
        return float(np.sqrt(variance))
    return largest or 1.0


def resolution(array: NDArray[Any]) -> float:
    """Return what rounding to the output's dtype alone can change, in units of its spread.

    Four units in the last place of the largest finite magnitude; 0 for discrete answers.
    """
    if is_discrete(array):
        return 0.0
    finite = (np.abs(row[np.isfinite(row)]) for row in map(np.asarray, array))
    largest = max((float(row.max()) for row in finite if row.size), default=0.0)
    return RESOLUTION_STEPS * float(np.finfo(array.dtype).eps) * largest / spread(array)


def differences(reference: NDArray[Any], other: NDArray[Any]) -> FloatArray:
    """Return how far each sample's answers lie apart.

    Args:
        reference: shape ``(samples, ...)``.
        other: the same shape.

    Returns:
        float64, shape ``(samples,)``: of numbers the largest absolute difference, infinite where
        one is NaN or infinite and the other is not the same; of discrete answers the share of
        elements that differ.

    Raises:
        ValueError: the shapes differ; see :func:`mismatch`.
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes {reference.shape} and {other.shape}")
    found = np.zeros(len(reference))
    for index, (left, right) in enumerate(zip(reference, other, strict=True)):
        if is_discrete(reference) or is_discrete(other):
            found[index] = float(np.mean(np.asarray(left) != np.asarray(right)))
        else:
            found[index] = _largest_difference(
                np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
            )
    return found


def _largest_difference(left: FloatArray, right: FloatArray) -> float:
    if left.size == 0:
        return 0.0
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(left - right))
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def mismatch(reference: Outputs, other: Outputs) -> str:
    """Return in which outputs two models differ in name or shape; empty where they do not."""
    for name in reference:
        if name not in other:
            return f'no output "{name}"'
        if other[name].shape[1:] != reference[name].shape[1:]:
            was, now = reference[name].shape[1:], other[name].shape[1:]
            return f'output "{name}" has shape {now} per sample instead of {was}'
    return ""


def decisions(outputs: Outputs) -> Decisions | None:
    """Return the class that each sample was given, and the margin of that decision.

    Read is the only output of shape ``(samples, classes)`` with two classes at least, or else the
    only discrete one of shape ``(samples,)``.

    Returns:
        the decisions; ``None`` where no output, or more than one, could be the one that decides.
    """
    scores = [
        name
        for name, array in outputs.items()
        if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"
    ]
    if len(scores) == 1:
        values = np.asarray(outputs[scores[0]], dtype=np.float64)
        broken = np.isnan(values).any(axis=1)
        kept = np.nan_to_num(values, nan=-np.inf)
        first_two = np.partition(kept, -2, axis=1)[:, -2:]
        with np.errstate(invalid="ignore"):
            margins = first_two[:, 1] - first_two[:, 0]
        classes = np.where(broken, -1, kept.argmax(axis=1))
        return Decisions(scores[0], classes, np.where(broken, np.nan, margins))
    direct = [name for name, array in outputs.items() if array.ndim == 1 and is_discrete(array)]
    if scores or len(direct) != 1:
        return None
    labels = np.asarray(outputs[direct[0]])
    return Decisions(direct[0], labels, np.full(len(labels), np.nan))
