from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.corpus import CorpusMetric, corpus_quality
from pytest_edgeai.measure.detection import check_objects, mean_average_precision

Array = NDArray[Any]
REFERENCE = 0.12640616251660744


def scene(samples: int = 60, objects: int = 4, clutter: int = 12) -> tuple[dict[str, Array], Array]:
    """Objects of five classes, a detector that finds most of them, and false alarms."""
    rng = np.random.default_rng(0)
    labels = np.zeros((samples, objects, 5))
    labels[..., :2] = rng.random((samples, objects, 2)) * 80
    labels[..., 2:4] = labels[..., :2] + 5 + rng.random((samples, objects, 2)) * 20
    labels[..., 4] = rng.integers(0, 5, (samples, objects))
    labels[rng.random((samples, objects)) < 0.3, 4] = -1
    boxes = np.zeros((samples, objects + clutter, 4))
    boxes[:, :objects] = labels[..., :4] + rng.normal(size=(samples, objects, 4))
    boxes[:, objects:, :2] = rng.random((samples, clutter, 2)) * 80
    boxes[:, objects:, 2:] = boxes[:, objects:, :2] + 15
    classes = rng.integers(0, 5, boxes.shape[:2])
    classes[:, :objects] = labels[..., 4]
    scores = rng.random(boxes.shape[:2])
    return {"boxes": boxes, "scores": scores, "labels": classes}, labels


def test_the_figure_is_that_of_the_reference_implementation() -> None:
    """0.12641… by pycocotools 2.0, ``COCOeval(iouType="bbox").stats[0]``, on the same scene."""
    outputs, labels = scene()
    assert mean_average_precision(outputs, labels) == pytest.approx(REFERENCE, abs=1e-12)


def test_layouts_are_the_same_detections() -> None:
    outputs, labels = scene()
    expected = mean_average_precision(outputs, labels)
    joined = np.concatenate(
        [outputs["boxes"], outputs["scores"][..., None], outputs["labels"][..., None]], axis=2
    )
    assert mean_average_precision({"detections": joined}, labels) == expected
    floats = {**outputs, "classes": outputs["labels"].astype(np.float32)}
    del floats["labels"]
    assert mean_average_precision(floats, labels) == expected
    padded = np.concatenate([joined, np.zeros((len(joined), 5, 6))], axis=1)
    assert mean_average_precision({"detections": padded}, labels) == expected
    broken = padded.copy()
    broken[:, -1] = np.nan
    assert mean_average_precision({"detections": broken}, labels) == expected


def test_perfect_and_useless_detectors() -> None:
    _, labels = scene()
    exact = np.concatenate([labels[..., :4], np.ones((*labels.shape[:2], 1)), labels[..., 4:]], 2)
    assert mean_average_precision({"d": exact}, labels) == pytest.approx(1.0)
    shifted = exact.copy()
    shifted[..., :4] += 200
    assert mean_average_precision({"d": shifted}, labels) == 0.0
    silent = exact.copy()
    silent[..., 4] = 0
    assert mean_average_precision({"d": silent}, labels) == 0.0


def test_a_found_object_is_found_once() -> None:
    labels = np.array([[[0.0, 0, 10, 10, 0]]])
    twice = np.array([[[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.8, 0]]])
    assert mean_average_precision({"d": twice}, labels) == pytest.approx(1.0)
    wrong_first = np.array([[[50, 50, 60, 60, 0.9, 0], [0, 0, 10, 10, 0.8, 0]]])
    assert mean_average_precision({"d": wrong_first}, labels) == pytest.approx(0.5)
    # An overlap of 0.8 counts for the thresholds 0.50 to 0.80.
    rough = np.array([[[0, 0, 10, 8, 0.9, 0]]])
    assert mean_average_precision({"d": rough}, labels) == pytest.approx(0.7)


def test_a_resample_is_the_figure_of_the_images_drawn() -> None:
    outputs, labels = scene()
    rng = np.random.default_rng(1)
    fast = mean_average_precision.summary(outputs, labels, "map")
    plain = CorpusMetric(mean_average_precision.figure).summary(outputs, labels, "map")
    times = rng.integers(0, 4, (5, len(labels)))
    assert fast.figures(times) == pytest.approx(plain.figures(times), abs=1e-12)


def test_objects_are_what_classes_and_slices_are_judged_by() -> None:
    outputs, labels = scene()
    dead = {**outputs, "labels": np.where(outputs["labels"] == 2, 3, outputs["labels"])}
    slices = {"place": np.arange(len(labels)) % 2}
    parts = corpus_quality(
        mean_average_precision, "map", outputs, dead, labels, slices=slices
    ).parts
    assert parts is not None
    assert len(parts.baseline_scores) == (labels[..., 4] >= 0).sum()
    assert parts.classes is not None
    assert parts.candidate_scores[parts.classes == 2].sum() == 0
    assert parts.baseline_scores[parts.classes == 2].mean() > 0.8
    sample = np.nonzero(labels[..., 4] >= 0)[0]
    assert (parts.slices["place"] == sample % 2).all()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"d": np.zeros((2, 3, 7))}, r"the outputs are no detections \(d \(2, 3, 7\) float64\)"),
        ({"boxes": np.zeros((2, 3, 4)), "scores": np.zeros((2, 3))}, "are no detections"),
        (
            {
                "boxes": np.zeros((2, 3, 4)),
                "scores": np.zeros((2, 5)),
                "labels": np.zeros((2, 3), int),
            },
            "are no detections",
        ),
        ({"d": np.zeros((3, 1, 6))}, "3 answers for 2 samples"),
    ],
)
def test_outputs_that_are_no_detections(outputs: dict[str, Array], expected: str) -> None:
    labels = np.tile([0.0, 0, 1, 1, 0], (2, 1, 1))
    with pytest.raises(ModelError, match=expected):
        mean_average_precision(outputs, labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.zeros((3, 5)), r"labels are float64 of shape \(3, 5\); allowed: numbers \(samples"),
        (np.zeros((3, 2, 4)), r"of shape \(3, 2, 4\)"),
        (np.full((3, 2, 5), "a"), "labels are <U1"),
        (np.full((3, 2, 5), np.nan), "a label is not finite"),
        (np.full((3, 2, 5), -1.0), "labels hold no object"),
        (np.tile([5.0, 5, 1, 9, 0], (1, 1, 1)), "ends before it begins"),
        (np.tile([0.0, 0, 1, 1, 0.5], (1, 1, 1)), "class is no whole number"),
    ],
)
def test_labels_that_are_no_objects(labels: Array, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        check_objects(labels)
