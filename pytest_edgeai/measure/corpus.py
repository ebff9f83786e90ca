"""Metrics of a whole evaluation set: a figure that is no mean over samples, and its resamples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.metrics import accuracy, check_labels, class_output
from pytest_edgeai.records import PairedQuality

RESAMPLES = 1000
SEED = 0

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
Resampler: TypeAlias = Callable[[NDArray[np.int64]], float]


@dataclass(frozen=True, eq=False)
class Hits:
    """What a corpus metric says of single things, so that classes and slices can be judged.

    Attributes:
        name: what a hit is (``accuracy``, ``object recall``).
        hits: float64, 0 or 1, shape ``(things,)``.
        classes: the class of each thing, shape ``(things,)``.
        samples: int64, the evaluation sample that each thing belongs to, shape ``(things,)``.
    """

    name: str
    hits: NDArray[np.float64]
    classes: NDArray[Any]
    samples: NDArray[np.int64]


@dataclass(frozen=True)
class CorpusMetric:
    """A metric of kind ``corpus``.

    Attributes:
        figure: called with ``(outputs, labels)``; returns one number from 0, higher is better.
        resampler: called with the same; returns a function from how often each sample is drawn
            (int64, shape ``(samples,)``) to the figure of that resample. ``None``: ``figure`` is
            called on the rows drawn, which takes as long each time.
        hits: called with the same; ``None`` where nothing can be said of single things.
    """

    figure: Callable[[Outputs, NDArray[Any]], float]
    resampler: Callable[[Outputs, NDArray[Any]], Resampler] | None = None
    hits: Callable[[Outputs, NDArray[Any]], Hits] | None = None
    kind: str = "corpus"

    def __call__(self, outputs: Outputs, labels: NDArray[Any]) -> float:
        """Return the figure of the whole set."""
        return self.figure(outputs, labels)

    def resample_with(self, outputs: Outputs, labels: NDArray[Any]) -> Resampler:
        """Return the function that gives a resample's figure."""
        if self.resampler is not None:
            return self.resampler(outputs, labels)

        def draw(times: NDArray[np.int64]) -> float:
            rows = np.repeat(np.arange(len(times)), times)
            drawn = {name: array[rows] for name, array in outputs.items()}
            return float(self.figure(drawn, labels[rows]))

        return draw


def corpus_quality(
    metric: Callable[..., Any],
    name: str,
    baseline: Outputs,
    candidate: Outputs,
    labels: NDArray[Any],
    *,
    slices: Mapping[str, NDArray[Any]] | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> PairedQuality:
    """Return the figures of both models on the whole set and on 1000 paired resamples.

    Samples are drawn with replacement, the same for both models (Efron and Tibshirani 1993), with a
    fixed seed.

    Args:
        metric: a :class:`CorpusMetric`, or a plain callable of ``(outputs, labels)``.
        name: for errors.
        baseline: output name to array.
        candidate: likewise.
        labels: shape ``(samples, ...)``.
        slices: what divides the samples.
        progress: told the share that is done.

    Raises:
        ModelError: the metric raised, or returned something else than a finite number from 0.
    """
    wrapped = metric if isinstance(metric, CorpusMetric) else CorpusMetric(metric)
    try:
        figures, hits = _figures(wrapped, name, (baseline, candidate), labels, progress)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f'metric "{name}" raised {type(error).__name__}: {error}') from error
    divisions = dict(slices or {})
    parts = None
    if hits:
        parts = PairedQuality(
            hits[0].name,
            "proportion",
            hits[0].hits,
            hits[1].hits,
            hits[0].classes,
            {key: array[hits[0].samples] for key, array in divisions.items()},
        )
    unknown = np.full(len(labels), np.nan)
    return PairedQuality(
        name,
        "corpus",
        unknown,
        unknown,
        None,
        divisions,
        resamples={"baseline": figures[0], "candidate": figures[1]},
        parts=parts,
    )


def _figures(
    metric: CorpusMetric,
    name: str,
    sides: tuple[Outputs, Outputs],
    labels: NDArray[Any],
    progress: Callable[[float], None],
) -> tuple[NDArray[np.float64], tuple[Hits, ...]]:
    samples = len(labels)
    figures = np.empty((2, 1 + RESAMPLES))
    resamplers = []
    for side, outputs in enumerate(sides):
        figures[side, 0] = _number(metric(outputs, labels), name)
        resamplers.append(metric.resample_with(outputs, labels))
    generator = np.random.default_rng(SEED)
    for number in range(1, 1 + RESAMPLES):
        times = np.bincount(generator.integers(0, samples, samples), minlength=samples)
        for side, resampler in enumerate(resamplers):
            figures[side, number] = _number(resampler(times), name)
        if number % 50 == 0:
            progress(number / RESAMPLES)
    hits = () if metric.hits is None else tuple(metric.hits(side, labels) for side in sides)
    return figures, hits


def _number(value: Any, name: str) -> float:
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "biuf" or not 0 <= float(array) < np.inf:
        raise ModelError(
            f'metric "{name}" returned '
            f"{f'shape {array.shape}' if array.ndim else repr(value)} for the whole set",
            allowed="one finite number, 0 or above",
        )
    return float(array)


def _answers(outputs: Outputs, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predicted classes as numbers from 0; a broken answer is class -1."""
    answer = outputs[class_output(outputs, labels)]
    if answer.ndim == 1:
        _, both = np.unique(np.concatenate([labels, answer]), return_inverse=True)
        return both[: len(labels)], both[len(labels) :]
    check_labels(labels, answer.shape[1])
    predicted = np.argmax(np.nan_to_num(answer, nan=-np.inf), axis=1)
    return labels.astype(np.int64), np.where(np.isnan(answer).any(axis=1), -1, predicted)


def _f1_resampler(outputs: Outputs, labels: NDArray[Any]) -> Resampler:
    truth, predicted = _answers(outputs, labels)
    classes = int(max(truth.max(), predicted.max())) + 1
    right = truth == predicted
    answered = predicted >= 0

    def figure(times: NDArray[np.int64]) -> float:
        hits = np.bincount(truth[right], weights=times[right], minlength=classes)
        present = np.bincount(truth, weights=times, minlength=classes)
        chosen = np.bincount(predicted[answered], weights=times[answered], minlength=classes)
        counted = present > 0
        return float(np.mean(2 * hits[counted] / (present + chosen)[counted]))

    return figure


def _f1_figure(outputs: Outputs, labels: NDArray[Any]) -> float:
    return _f1_resampler(outputs, labels)(np.ones(len(labels), dtype=np.int64))


def _right(outputs: Outputs, labels: NDArray[Any]) -> Hits:
    return Hits("accuracy", accuracy(outputs, labels), labels, np.arange(len(labels)))


f1 = CorpusMetric(_f1_figure, _f1_resampler, _right)
"""Macro F1: the unweighted mean, over the classes that occur among the labels, of
``2 TP / (2 TP + FP + FN)`` (van Rijsbergen 1979; scikit-learn's ``f1_score(average="macro")`` where
``labels`` are the classes of the truth)."""
