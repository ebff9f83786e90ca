"""Average precision of object detectors, as COCO defines it, in NumPy.

Source: Lin et al. (2014), "Microsoft COCO: common objects in context", and pycocotools'
``COCOeval``: matching by falling score, the best free object of the same class, precision
interpolated at 101 recalls, mean over classes and over the IoU thresholds 0.50 to 0.95. Objects of
all sizes count, at most 100 detections of a class in an image, and there are no crowds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.corpus import CorpusMetric, Hits, Summary, figure_of

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
"""Of one class in one image."""
MOST_WEIGHTS = 2_000_000
"""Detections times resamples that are computed at once, 16 MB an array."""
LAYOUTS = (
    "one float output (samples, detections, 6) of x1, y1, x2, y2, score, class; or a float output "
    "(samples, detections, 4) of boxes x1, y1, x2, y2, with (samples, detections) outputs of "
    'float scores and of classes, which are integers or named "labels" or "classes"'
)
OBJECT_NUMBERS = 5
"""Of each object in the labels: x1, y1, x2, y2, class."""
LABEL_LAYOUT = (
    "numbers (samples, objects, 5) of x1, y1, x2, y2, class; class -1 fills up the rows of samples "
    "with fewer objects"
)

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector answered, padded.

    Attributes:
        boxes: float64, shape ``(samples, detections, 4)``: x1, y1, x2, y2.
        scores: float64, shape ``(samples, detections)``; 0 and below is padding.
        classes: int64, shape ``(samples, detections)``.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _ClassMatches:
    """Detections of one class by falling score.

    Attributes:
        samples: int64, the sample of each detection, shape ``(detections,)``.
        useful: int64, the detections that found an object at some threshold, shape ``(useful,)``.
        matched: for each threshold, which of the useful ones found an object at it.
    """

    samples: NDArray[np.int64]
    useful: NDArray[np.int64]
    matched: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Detections of classes that have objects, by sample and falling score.

    Attributes:
        samples: int64, the sample of each, shape ``(detections,)``, rising.
        classes: int64, its class, likewise.
        scores: float64, likewise.
        boxes: float64, shape ``(detections, 4)``.
    """

    samples: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: FloatArray
    boxes: FloatArray


def read_detections(outputs: Outputs) -> Detections:
    """Return a detector's outputs in one form.

    Detections whose box or score is not a number are dropped.

    Raises:
        ModelError: no known layout.
    """
    floats = {name: array for name, array in outputs.items() if array.dtype.kind == "f"}
    joined = [a for a in floats.values() if a.ndim == 3 and a.shape[2] == 6]
    boxes = [a for a in floats.values() if a.ndim == 3 and a.shape[2] == 4]
    flat = {name: a for name, a in outputs.items() if a.ndim == 2 and a.dtype.kind in "fiu"}
    classes = [a for n, a in flat.items() if a.dtype.kind in "iu" or n in ("labels", "classes")]
    scores = [a for n, a in flat.items() if a.dtype.kind == "f" and n not in ("labels", "classes")]
    if len(joined) == 1 and not boxes:
        parts = joined[0][..., :4], joined[0][..., 4], joined[0][..., 5]
    elif len(boxes) == len(scores) == len(classes) == 1 and not joined:
        parts = boxes[0], scores[0], classes[0]
    else:
        parts = (np.empty(0),) * 3
    if not (parts[0].shape[:2] == parts[1].shape == parts[2].shape) or parts[0].ndim != 3:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in outputs.items())
        raise ModelError(f"the outputs are no detections ({shapes})", allowed=LAYOUTS)
    place, score, label = (part.astype(np.float64) for part in parts)
    known = np.isfinite(place).all(axis=2) & np.isfinite(score) & np.isfinite(label)
    return Detections(
        np.where(known[..., np.newaxis], place, 0.0),
        np.where(known, score, 0.0),
        np.where(known, label, -1).astype(np.int64),
    )


def check_objects(labels: NDArray[Any]) -> None:
    """Check the labels of a detector's evaluation data.

    Raises:
        ModelError: another layout, numbers that are not finite, a box of negative size, no object.
    """
    what = ""
    if labels.ndim != 3 or labels.shape[2] != OBJECT_NUMBERS or labels.dtype.kind not in "iuf":
        what = f"labels are {labels.dtype} of shape {labels.shape}"
    else:
        kept = labels[labels[..., 4] >= 0]
        if not np.isfinite(labels).all():
            what = "a label is not finite"
        elif len(kept) == 0:
            what = "labels hold no object"
        elif (kept[:, 2:4] < kept[:, :2]).any():
            what = "a label's box ends before it begins"
        elif (kept[:, 4] != np.round(kept[:, 4])).any():
            what = "a label's class is no whole number"
    if what:
        raise ModelError(what, allowed=LABEL_LAYOUT)


def _positions(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each element within its group, in the order given."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    positions = np.empty(len(groups), dtype=np.int64)
    positions[order] = np.arange(len(groups)) - np.repeat(
        begins, np.diff(begins, append=len(order))
    )
    return positions


def _rank(detections: Detections, classes: NDArray[np.int64]) -> _Ranked:
    """Return the detections that count, at most :data:`MOST_DETECTIONS` of a class in a sample.

    Args:
        detections: what the detector answered.
        classes: the classes that have objects, rising.
    """
    samples, places = np.nonzero((detections.scores > 0) & np.isin(detections.classes, classes))
    order = np.lexsort((-detections.scores[samples, places], samples))
    samples, places = samples[order], places[order]
    answered = detections.classes[samples, places]
    kept: slice | NDArray[np.bool_] = slice(None)
    if len(samples) and np.bincount(samples).max() > MOST_DETECTIONS:
        groups = samples * len(classes) + np.searchsorted(classes, answered)
        kept = _positions(groups) < MOST_DETECTIONS
    return _Ranked(
        samples[kept],
        answered[kept],
        detections.scores[samples, places][kept],
        detections.boxes[samples, places][kept],
    )


def _overlaps(ranked: _Ranked, labels: NDArray[Any]) -> FloatArray:
    """Intersection over union of each detection with the objects of its class in its sample.

    Returns:
        shape ``(detections, objects)``; -1 for an object of another class, 0 where both are empty.
    """
    sizes = np.prod(np.clip(labels[..., 2:4] - labels[..., :2], 0.0, None), axis=2)
    own = np.prod(np.clip(ranked.boxes[:, 2:] - ranked.boxes[:, :2], 0.0, None), axis=1)
    shared = np.ones((len(own), labels.shape[1]))
    for low in (0, 1):
        truth = labels[ranked.samples]
        end = np.minimum(ranked.boxes[:, low + 2, np.newaxis], truth[..., low + 2])
        begin = np.maximum(ranked.boxes[:, low, np.newaxis], truth[..., low])
        shared *= np.clip(end - begin, 0.0, None)
    union = own[:, np.newaxis] + sizes[ranked.samples] - shared
    quotient = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    alike = labels[ranked.samples, :, 4] == ranked.classes[:, np.newaxis]
    return np.where(alike, quotient, -1.0)


def _match(ranked: _Ranked, labels: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match detections, by falling score, with the objects of their class in their sample.

    Returns:
        whether each detection found one, ``(detections, thresholds)``, and whether each object was
        found, ``(samples, thresholds, objects)``.
    """
    thresholds = len(IOU_THRESHOLDS)
    found = np.zeros((len(labels), thresholds, labels.shape[1]), dtype=np.bool_)
    matched = np.zeros((len(ranked.samples), thresholds), dtype=np.bool_)
    if not matched.size or not found.size:
        return matched, found
    overlaps = _overlaps(ranked, labels)
    hopeful = np.flatnonzero(overlaps.max(axis=1) >= IOU_THRESHOLDS[0] - 1e-10)
    turn = _positions(ranked.samples[hopeful])
    # Samples are independent, so that the first detections of all of them are matched at once,
    # then the second ones.
    for number in range(int(turn.max(initial=-1)) + 1):
        chosen = hopeful[turn == number]
        samples = ranked.samples[chosen]
        free = np.where(found[samples], -1.0, overlaps[chosen][:, np.newaxis])
        # COCOeval takes the last of equally good objects.
        best = free.shape[2] - 1 - np.argmax(free[:, :, ::-1], axis=2)
        good = np.take_along_axis(free, best[..., np.newaxis], axis=2)[..., 0]
        hit = good >= IOU_THRESHOLDS - 1e-10
        matched[chosen] = hit
        rows, columns = np.nonzero(hit)
        found[samples[rows], columns, best[rows, columns]] = True
    return matched, found


def _by_class(
    ranked: _Ranked, matched: NDArray[np.bool_], classes: NDArray[np.int64]
) -> list[_ClassMatches]:
    order = np.lexsort((-ranked.scores, ranked.classes))
    ends = np.searchsorted(ranked.classes[order], classes, side="right")
    result = []
    for chosen in np.split(order, ends[:-1]):
        hits = matched[chosen]
        useful = np.flatnonzero(hits.any(axis=1))
        columns = tuple(np.flatnonzero(column) for column in hits[useful].T)
        result.append(_ClassMatches(ranked.samples[chosen], useful, columns))
    return result


def _reached(recall: FloatArray) -> FloatArray:
    """Return how many of the 101 recalls are reached, as ``searchsorted`` from the right does."""
    last = np.minimum(recall * (len(RECALLS) - 1) + 1e-9, len(RECALLS) - 1).astype(np.intp)
    # A recall of k/100 may lie one bit below its place in the table, as it does in COCOeval.
    reached: FloatArray = (last + (RECALLS[last] <= recall)).astype(np.float64)
    return reached


def _average_precisions(
    matches: _ClassMatches, times: NDArray[np.int64], objects: FloatArray
) -> FloatArray:
    """Mean AP of a class over the IoU thresholds in each resample.

    Args:
        matches: of the class.
        times: how often each sample is drawn, shape ``(samples, resamples)``.
        objects: objects of the class in each resample, above 0, shape ``(resamples,)``.

    Returns:
        shape ``(resamples,)``.
    """
    total = np.zeros(len(objects))
    if not len(matches.useful):
        return total
    # Precision peaks where an object is found, so that its upper envelope needs these places alone.
    blocks = np.concatenate([[0], matches.useful[:-1] + 1])
    weights = times[matches.samples[: matches.useful[-1] + 1]]
    answers = np.maximum(np.cumsum(np.add.reduceat(weights, blocks, axis=0), axis=0), 1.0)
    drawn = weights[matches.useful]
    # Hits are whole numbers, so that what they reach is looked up instead of computed each time.
    found = np.arange(int(objects.max()) + 1, dtype=np.float64)
    table = _reached(found / objects[:, np.newaxis]).ravel()
    rows = len(found) * np.arange(len(objects))
    known, area = matches.matched[0][:0], np.zeros(len(objects))
    for columns in matches.matched:
        if not len(columns):
            continue
        # Boxes that lie well match the same objects at several thresholds.
        if np.array_equal(columns, known):
            total += area
            continue
        hits = np.cumsum(drawn[columns], axis=0)
        precision = hits / answers[columns]
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        # Each of the 101 recalls takes the precision where it is first reached.
        reached = table[hits + rows]
        area = precision[0] * reached[0]
        area += np.einsum("ij,ij->j", precision[1:], np.diff(reached, axis=0))
        known = columns
        total += area
    mean: FloatArray = total / (len(RECALLS) * len(IOU_THRESHOLDS))
    return mean


def _summarize(outputs: Outputs, labels: NDArray[Any]) -> Summary:
    check_objects(labels)
    detections = read_detections(outputs)
    if len(detections.scores) != len(labels):
        raise ModelError(f"{len(detections.scores)} answers for {len(labels)} samples")
    truth = labels.astype(np.float64)
    names = truth[..., 4].astype(np.int64)
    real = names >= 0
    classes, numbers = np.unique(names[real], return_inverse=True)
    samples, _ = np.nonzero(real)
    objects = np.zeros((len(classes), len(labels)))
    np.add.at(objects, (numbers, samples), 1.0)
    ranked = _rank(detections, classes)
    matched, found = _match(ranked, truth)
    by_class = _by_class(ranked, matched, classes)

    def figures(times: NDArray[np.int64]) -> FloatArray:
        at_once = max(1, MOST_WEIGHTS // max(len(ranked.samples), 1))
        return np.concatenate(
            [chunk(times[begin : begin + at_once]) for begin in range(0, len(times), at_once)]
        )

    def chunk(times: NDArray[np.int64]) -> FloatArray:
        drawn = np.ascontiguousarray(times.T)
        present = objects @ drawn.astype(np.float64)
        known = present > 0
        total = np.zeros(len(times))
        for matches, counts, defined in zip(by_class, present, known, strict=True):
            total += defined * _average_precisions(matches, drawn, np.maximum(counts, 1.0))
        mean: FloatArray = total / np.maximum(known.sum(axis=0), 1)
        return mean

    hits = Hits(
        "object recall",
        found[:, 0][real].astype(np.float64),
        names[real],
        samples.astype(np.int64),
    )
    return Summary(figures, hits)


mean_average_precision = CorpusMetric(figure_of(_summarize), _summarize)
"""COCO's AP: the mean over classes and IoU thresholds from 0.50 to 0.95. A class without an object
among the labels does not count."""
