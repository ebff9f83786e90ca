"""Whether two models gave the same answer to a request, for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.agreement import Outputs, decisions, is_discrete, mismatch
from pytest_edgeai.measure.detection import Detections, read_detections
from pytest_edgeai.tasks import CLASSIFICATION_TASKS

FloatArray: TypeAlias = NDArray[np.float64]
Same: TypeAlias = Literal["decision", "objects", "direction", "values"]

DEFAULT_TOLERANCE = 0.1
SHOWN_SCORE = 0.5
"""Score from which on a detection counts as an answer."""
MATCHING_OVERLAP = 0.5
"""Intersection over union from which on two boxes are one object (Pascal VOC, Everingham 2010)."""


@dataclass(frozen=True)
class SameAnswer:
    """What makes two answers the same.

    Attributes:
        kind: the decided class; the objects found; the direction of vectors; or the values.
        tolerance: how far they may lie apart, in units of the output's spread (for a direction
            1 less the cosine, for objects the score).
    """

    kind: Same
    tolerance: float

    @property
    def words(self) -> str:
        """What counted as the same, for the reader of the verdict."""
        near = f"{self.tolerance:.3g}"
        return {
            "decision": f"the same class, or one within {near} of the spread of the baseline's",
            "objects": f"the same objects (overlap {MATCHING_OVERLAP:g}, score {SHOWN_SCORE:g})",
            "direction": f"a cosine of {1 - self.tolerance:.3g} and above",
            "values": f"values within {near} of the output's spread",
        }[self.kind]


def same_answer(task: str, metric_kind: str, outputs: Outputs, tolerance: float) -> SameAnswer:
    """Return what makes two answers of a model the same.

    Args:
        task: Hugging Face task name.
        metric_kind: what the model's metric returns.
        outputs: some answers of the baseline.
        tolerance: see :class:`SameAnswer`.
    """
    kind: Same = "values"
    if task in CLASSIFICATION_TASKS and decisions(outputs) is not None:
        kind = "decision"
    elif metric_kind == "embedding":
        kind = "direction"
    elif task == "object-detection" and _are_detections(outputs):
        kind = "objects"
    return SameAnswer(kind, tolerance)


def _are_detections(outputs: Outputs) -> bool:
    try:
        read_detections(outputs)
    except ModelError:
        return False
    return True


def compare_answers(
    baseline: Outputs, candidate: Outputs, same: SameAnswer, units: Mapping[str, float]
) -> tuple[FloatArray, int]:
    """Return for each request whether the answers are the same, 1 or 0, and how many hardly are.

    Args:
        baseline: output name to array, axis 0 the requests.
        candidate: likewise.
        same: what makes them the same.
        units: output name to its spread.

    Returns:
        float64, shape ``(requests,)``; and the number of requests with another class that count as
        the same because the baseline hardly preferred its own.
    """
    requests = len(next(iter(baseline.values())))
    if mismatch(baseline, candidate):
        return np.zeros(requests), 0
    if same.kind == "decision":
        return _compare_decisions(baseline, candidate, same.tolerance, units)
    if same.kind == "objects":
        found = _compare_objects(
            read_detections(baseline), read_detections(candidate), same.tolerance
        )
    elif same.kind == "direction":
        found = _compare_directions(baseline, candidate, same.tolerance)
    else:
        found = _compare_values(baseline, candidate, same.tolerance, units)
    return found.astype(np.float64), 0


def _compare_decisions(
    baseline: Outputs, candidate: Outputs, tolerance: float, units: Mapping[str, float]
) -> tuple[FloatArray, int]:
    decided, other = decisions(baseline), decisions(candidate)
    if decided is None or other is None:
        return np.zeros(len(next(iter(baseline.values())))), 0
    equal: NDArray[np.bool_] = decided.classes == other.classes
    near = np.zeros_like(equal)
    if np.isfinite(decided.margins).any():
        values = np.asarray(baseline[decided.output], dtype=np.float64)
        rows = np.arange(len(values))
        known = ~equal & (decided.classes >= 0) & (other.classes >= 0)
        own, chosen = (np.maximum(each.classes, 0) for each in (decided, other))
        lead = values[rows, own] - values[rows, chosen]
        near = known & (lead <= tolerance * units.get(decided.output, 1.0))
    return (equal | near).astype(np.float64), int(np.count_nonzero(near))


def _compare_values(
    baseline: Outputs, candidate: Outputs, tolerance: float, units: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Compare by the root of the mean square over a request's elements."""
    same = np.ones(len(next(iter(baseline.values()))), dtype=np.bool_)
    for name, array in baseline.items():
        for index, (left, right) in enumerate(zip(array, candidate[name], strict=True)):
            same[index] &= _same_values(np.asarray(left), np.asarray(right), tolerance, units[name])
    return same


def _same_values(left: NDArray[Any], right: NDArray[Any], tolerance: float, unit: float) -> bool:
    if left.size == 0:
        return True
    if is_discrete(left) or is_discrete(right):
        return bool(np.mean(left != right) <= tolerance)
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(equal, 0.0, left.astype(np.float64) - right.astype(np.float64))
        return bool(np.sqrt(np.mean(apart**2)) <= tolerance * unit)


def _compare_directions(
    baseline: Outputs, candidate: Outputs, tolerance: float
) -> NDArray[np.bool_]:
    same = np.ones(len(next(iter(baseline.values()))), dtype=np.bool_)
    for name, array in baseline.items():
        if is_discrete(array) or array.ndim < 2:
            continue
        left, right = (
            np.asarray(each, dtype=np.float64).reshape(len(each), -1)
            for each in (array, candidate[name])
        )
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            cosine = (left * right).sum(axis=1) / norms
        same &= cosine >= 1 - tolerance
    return same


def _compare_objects(
    baseline: Detections, candidate: Detections, tolerance: float
) -> NDArray[np.bool_]:
    """Compare both ways: what one model shows, the other has to have found, nearly as sure."""
    return np.asarray(
        [
            _finds(baseline, candidate, index, tolerance)
            and _finds(candidate, baseline, index, tolerance)
            for index in range(len(baseline.scores))
        ],
        dtype=np.bool_,
    )


def _finds(shown: Detections, other: Detections, index: int, tolerance: float) -> bool:
    """Return whether every object that one model shows has one of its own in the other's answer."""
    known = other.scores[index] >= SHOWN_SCORE - tolerance
    boxes, classes = other.boxes[index][known], other.classes[index][known]
    free = np.ones(len(boxes), dtype=np.bool_)
    for place in np.flatnonzero(shown.scores[index] >= SHOWN_SCORE):
        fits = free & (classes == shown.classes[index][place])
        overlaps = np.where(fits, _overlaps(shown.boxes[index][place], boxes), 0.0)
        if overlaps.max(initial=0.0) < MATCHING_OVERLAP:
            return False
        free[int(overlaps.argmax())] = False
    return True


def _overlaps(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """Return the intersection over union of a box with others, float64, shape ``(boxes,)``."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
