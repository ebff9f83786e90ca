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
from pytest_edgeai.measure.corpus import CorpusMetric, Hits, Resampler

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
"""Of one class in one image."""
LAYOUTS = (
    "one float output (samples, detections, 6) of x1, y1, x2, y2, score, class; or a float output "
    "(samples, detections, 4) of boxes x1, y1, x2, y2, with (samples, detections) outputs of "
    'float scores and of classes, which are integers or named "labels" or "classes"'
)
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
    """Detections of one class by falling score, and the class's objects.

    Attributes:
        samples: int64, the sample of each detection, shape ``(detections,)``.
        useful: int64, the detections that found an object at some threshold, shape ``(useful,)``.
        matched: bool, whether each of them did, shape ``(thresholds, useful)``.
        objects: int64, objects in each sample, shape ``(samples,)``.
    """

    samples: NDArray[np.int64]
    useful: NDArray[np.int64]
    matched: NDArray[np.bool_]
    objects: NDArray[np.int64]


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
    if labels.ndim != 3 or labels.shape[2] != 5 or labels.dtype.kind not in "iuf":
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


def _overlap(boxes: FloatArray, objects: FloatArray) -> FloatArray:
    """Intersection over union, shape ``(boxes, objects)``; 0 where both are empty."""
    low = np.maximum(boxes[:, np.newaxis, :2], objects[np.newaxis, :, :2])
    high = np.minimum(boxes[:, np.newaxis, 2:], objects[np.newaxis, :, 2:4])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    sizes = [np.prod(np.clip(a[:, 2:4] - a[:, :2], 0.0, None), axis=1) for a in (boxes, objects)]
    union = sizes[0][:, np.newaxis] + sizes[1][np.newaxis, :] - shared
    quotient: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return quotient


def _match(boxes: FloatArray, objects: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match boxes, by falling score, with objects.

    Returns:
        whether each box found one, ``(thresholds, boxes)``, and whether each object was found,
        ``(thresholds, objects)``.
    """
    found = np.zeros((len(IOU_THRESHOLDS), len(objects)), dtype=np.bool_)
    matched = np.zeros((len(IOU_THRESHOLDS), len(boxes)), dtype=np.bool_)
    if not len(objects) or not len(boxes):
        return matched, found
    overlap = _overlap(boxes, objects)
    rows = np.arange(len(IOU_THRESHOLDS))
    for number in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0] - 1e-10):
        free = np.where(found, -1.0, overlap[number])
        # COCOeval takes the last of equally good objects.
        best = free.shape[1] - 1 - np.argmax(free[:, ::-1], axis=1)
        hit = free[rows, best] >= IOU_THRESHOLDS - 1e-10
        matched[hit, number] = True
        found[rows[hit], best[hit]] = True
    return matched, found


def _matches(
    outputs: Outputs, labels: NDArray[Any]
) -> tuple[dict[int, _ClassMatches], NDArray[np.bool_]]:
    """Return the matches of every class, and whether each object was found at IoU 0.5."""
    check_objects(labels)
    detections = read_detections(outputs)
    if len(detections.scores) != len(labels):
        raise ModelError(f"{len(detections.scores)} answers for {len(labels)} samples")
    classes = labels[..., 4].astype(np.int64)
    recalled = np.zeros(classes.shape, dtype=np.bool_)
    kept = np.unique(classes[classes >= 0]).tolist()
    gathered: dict[int, list[tuple[FloatArray, NDArray[np.bool_], int]]] = {c: [] for c in kept}
    for sample in range(len(labels)):
        real = np.flatnonzero(detections.scores[sample] > 0)
        order = real[np.argsort(-detections.scores[sample, real], kind="stable")]
        answered = detections.classes[sample, order]
        for name in np.union1d(answered, classes[sample]).tolist():
            if name not in gathered:
                continue
            chosen = order[answered == name][:MOST_DETECTIONS]
            objects = np.flatnonzero(classes[sample] == name)
            truth = labels[sample, objects].astype(np.float64)
            matched, found = _match(detections.boxes[sample, chosen], truth)
            recalled[sample, objects] = found[0]
            gathered[name].append((detections.scores[sample, chosen], matched, sample))
    result = {}
    for name, pieces in gathered.items():
        order = np.argsort(-np.concatenate([score for score, _, _ in pieces]), kind="stable")
        samples = np.repeat([s for _, _, s in pieces], [len(score) for score, _, _ in pieces])
        matched = np.concatenate([matched for _, matched, _ in pieces], axis=1)[:, order]
        useful = np.flatnonzero(matched.any(axis=0))
        result[name] = _ClassMatches(
            samples[order].astype(np.int64),
            useful,
            matched[:, useful],
            (classes == name).sum(axis=1),
        )
    return result, recalled[classes >= 0]


def _average_precision(matches: _ClassMatches, times: NDArray[np.int64]) -> float | None:
    """Mean AP over the IoU thresholds; ``None`` where the resample has no object of the class."""
    objects = int(matches.objects @ times)
    if not objects:
        return None
    if not len(matches.useful):
        return 0.0
    weight = times[matches.samples]
    # Precision peaks where an object is found, so that its upper envelope needs these places alone.
    answers = np.maximum(np.cumsum(weight)[matches.useful], 1)
    hits = np.cumsum(matches.matched * weight[matches.useful], axis=1)
    precision = np.maximum.accumulate((hits / answers)[:, ::-1], axis=1)[:, ::-1]
    # Each of the 101 recalls takes the precision where it is first reached.
    reached = np.searchsorted(RECALLS, hits / objects, side="right")
    steps = np.diff(reached, axis=1, prepend=0)
    return float((precision * steps).sum()) / (len(RECALLS) * len(IOU_THRESHOLDS))


def _resampler(outputs: Outputs, labels: NDArray[Any]) -> Resampler:
    by_class, _ = _matches(outputs, labels)

    def figure(times: NDArray[np.int64]) -> float:
        known = [_average_precision(matches, times) for matches in by_class.values()]
        present = [value for value in known if value is not None]
        return float(np.mean(present)) if present else 0.0

    return figure


def _figure(outputs: Outputs, labels: NDArray[Any]) -> float:
    return _resampler(outputs, labels)(np.ones(len(labels), dtype=np.int64))


def _objects(outputs: Outputs, labels: NDArray[Any]) -> Hits:
    _, recalled = _matches(outputs, labels)
    classes = labels[..., 4].astype(np.int64)
    samples, _ = np.nonzero(classes >= 0)
    return Hits(
        "object recall",
        recalled.astype(np.float64),
        classes[classes >= 0],
        samples.astype(np.int64),
    )


mean_average_precision = CorpusMetric(_figure, _resampler, _objects)
"""COCO's AP: the mean over classes and IoU thresholds from 0.50 to 0.95. A class without an object
among the labels does not count."""
