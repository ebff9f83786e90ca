"""The shipped quality metrics, and those of them that give one score per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.descriptors import MetricDescriptor
from pytest_edgeai.errors import ModelError
from pytest_edgeai.tasks import CLASSIFICATION_TASKS, GENERATION_TASKS

METRICS: Mapping[str, MetricDescriptor] = {
    metric.name: metric
    for metric in (
        MetricDescriptor(
            "accuracy", "pytest_edgeai.measure.metrics:accuracy", "proportion", CLASSIFICATION_TASKS
        ),
        MetricDescriptor(
            "absolute_error",
            "pytest_edgeai.measure.metrics:absolute_error",
            "loss",
            ("tabular-regression", "depth-estimation", "time-series-forecasting"),
        ),
        MetricDescriptor("f1", "pytest_edgeai.measure.corpus:f1", "corpus"),
        MetricDescriptor(
            "mean_average_precision",
            "pytest_edgeai.measure.detection:mean_average_precision",
            "corpus",
            ("object-detection",),
        ),
        MetricDescriptor(
            "cosine",
            "pytest_edgeai.measure.embedding:embedding",
            "embedding",
            ("feature-extraction", "image-feature-extraction", "sentence-similarity"),
        ),
        MetricDescriptor("perplexity", "", "perplexity", GENERATION_TASKS),
    )
}


def parts_of(metric: str, kind: str) -> str:
    """Return what a metric's classes and slices are judged by, in the plural.

    Args:
        metric: its name.
        kind: its kind, see :class:`~pytest_edgeai.descriptors.MetricDescriptor`.

    Returns:
        ``samples`` or ``objects``; empty where it has no figure for them, or none that is known
        before it is measured.
    """
    if kind == "corpus":
        return {"f1": "samples", "mean_average_precision": "objects"}.get(metric, "")
    return "samples" if kind in ("proportion", "loss", "embedding") else ""


def is_text(array: NDArray[Any]) -> bool:
    """Return whether an array holds strings."""
    return array.dtype.kind in "UT"


def class_output(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> str:
    """Return the output that answers with classes.

    That is the only output of shape ``(samples, classes)``, or else the only output of shape
    ``(samples,)`` that holds labels of the same kind (integers or strings).

    Raises:
        ModelError: none or several fit.
    """
    scores = [
        name
        for name, array in outputs.items()
        if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"
    ]
    if is_text(labels):
        direct = [name for name, array in outputs.items() if array.ndim == 1 and is_text(array)]
    else:
        direct = [
            name for name, array in outputs.items() if array.ndim == 1 and array.dtype.kind in "iu"
        ]
    found = (direct or scores) if is_text(labels) else (scores or direct)
    if len(found) != 1:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in outputs.items())
        raise ModelError(
            f"{'several outputs' if found else 'no output'} could answer with classes ({shapes})",
            allowed="an output of shape (samples, classes), at least two of them",
            advice='Choose one with output = "NAME", or, for a single probability or several '
            'labels per sample, write a metric: metric = "module:function"',
        )
    return found[0]


def accuracy(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1.0 where the predicted class is the label and 0.0 elsewhere.

    Args:
        outputs: output name to array; scores of shape ``(samples, classes)``, or labels of shape
            ``(samples,)``.
        labels: int or string, shape ``(samples,)``.

    Returns:
        float64, shape ``(samples,)``. A sample whose scores hold NaN counts as wrong.

    Raises:
        ModelError: no output fits, or the labels do not fit the output.
    """
    name = class_output(outputs, labels)
    answer = outputs[name]
    if answer.ndim == 1:
        return np.asarray(answer == labels, dtype=np.float64)
    check_labels(labels, answer.shape[1])
    broken = np.isnan(answer).any(axis=1)
    right = np.argmax(np.nan_to_num(answer, nan=-np.inf), axis=1) == labels
    return np.where(broken, 0.0, right.astype(np.float64))


def check_labels(labels: NDArray[Any], classes: int | None) -> None:
    """Check that labels are class numbers.

    Raises:
        ModelError: wrong shape, dtype or range.
    """
    if labels.ndim != 1:
        raise ModelError(
            f"labels have shape {labels.shape}",
            allowed="one class per sample",
            advice='For several labels per sample write a metric: metric = "module:function"',
        )
    if labels.dtype.kind not in "iu":
        raise ModelError(f"labels are {labels.dtype}", allowed="integers from 0, or strings")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        raise ModelError(
            f"labels run from {low} to {high}",
            allowed="0 and above"
            if classes is None
            else f"0 to {classes - 1}, one per column of the output",
        )


def absolute_error(
    outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the mean absolute error of each sample.

    Args:
        outputs: exactly one numeric output; its elements per sample are as many as the labels'.
        labels: numeric, shape ``(samples, ...)``.

    Returns:
        float64, shape ``(samples,)``.

    Raises:
        ModelError: several outputs, or shapes that do not fit.
    """
    numeric = {name: array for name, array in outputs.items() if array.dtype.kind == "f"}
    if len(numeric) != 1:
        raise ModelError(f"{len(numeric)} outputs could be regressed", allowed='output = "NAME"')
    answer = next(iter(numeric.values())).reshape(len(labels), -1).astype(np.float64)
    truth = labels.reshape(len(labels), -1)
    if truth.dtype.kind not in "iuf" or truth.shape != answer.shape:
        raise ModelError(
            f"labels are {truth.dtype} with {truth.shape[1]} values per sample",
            allowed=f"numbers, {answer.shape[1]} per sample",
        )
    return np.asarray(np.abs(answer - truth.astype(np.float64)).mean(axis=1))
