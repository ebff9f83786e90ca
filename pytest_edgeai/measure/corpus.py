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
MOST_DRAWS = 2_000_000
"""Samples times resamples that are drawn at once, 16 MB."""
SEED = 0

Outputs: TypeAlias = Mapping[str, NDArray[Any]]


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


@dataclass(frozen=True, eq=False)
class Summary:
    """What a corpus metric keeps of one model's outputs, so that resamples need not begin anew.

    Attributes:
        figures: called with how often each sample is drawn, int64, shape ``(resamples, samples)``;
            returns the figure of each resample, float64, shape ``(resamples,)``.
        hits: ``None`` where nothing can be said of single things.
    """

    figures: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    hits: Hits | None = None


@dataclass(frozen=True)
class CorpusMetric:
    """A metric of kind ``corpus``.

    Attributes:
        figure: called with ``(outputs, labels)``; returns one number from 0, higher is better.
        summarize: called with the same. ``None``: ``figure`` is called on the rows drawn, which
            takes as long each time.
    """

    figure: Callable[[Outputs, NDArray[Any]], float]
    summarize: Callable[[Outputs, NDArray[Any]], Summary] | None = None
    kind: str = "corpus"

    def __call__(self, outputs: Outputs, labels: NDArray[Any]) -> float:
        """Return the figure of the whole set."""
        return self.figure(outputs, labels)

    def summary(self, outputs: Outputs, labels: NDArray[Any], name: str) -> Summary:
        """Return what gives the figures of resamples.

        Args:
            outputs: output name to array.
            labels: shape ``(samples, ...)``.
            name: for errors.
        """
        if self.summarize is not None:
            return self.summarize(outputs, labels)

        def figures(times: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.array([draw(drawn) for drawn in times], dtype=np.float64)

        def draw(times: NDArray[np.int64]) -> float:
            rows = np.repeat(np.arange(len(times)), times)
            drawn = {name: array[rows] for name, array in outputs.items()}
            return _number(self.figure(drawn, labels[rows]), name)

        return Summary(figures)


def figure_of(
    summarize: Callable[[Outputs, NDArray[Any]], Summary],
) -> Callable[[Outputs, NDArray[Any]], float]:
    """Return the function that gives the figure of the whole set by its summary."""

    def figure(outputs: Outputs, labels: NDArray[Any]) -> float:
        once = np.ones((1, len(labels)), dtype=np.int64)
        return float(summarize(outputs, labels).figures(once)[0])

    return figure


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
) -> tuple[NDArray[np.float64], list[Hits]]:
    samples = len(labels)
    figures = np.empty((2, 1 + RESAMPLES))
    summaries = []
    once = np.ones((1, samples), dtype=np.int64)
    for side, outputs in enumerate(sides):
        summary = metric.summary(outputs, labels, name)
        # A figure of its own tells what a plain callable returned for the whole set.
        whole = metric(outputs, labels) if metric.summarize is None else summary.figures(once)[0]
        figures[side, 0] = _number(whole, name)
        summaries.append(summary)
    generator = np.random.default_rng(SEED)
    at_once = max(1, min(MOST_DRAWS // samples, 50 if metric.summarize is None else RESAMPLES))
    for begin in range(1, 1 + RESAMPLES, at_once):
        end = min(begin + at_once, 1 + RESAMPLES)
        times = _draw(generator, end - begin, samples)
        for side, summary in enumerate(summaries):
            figures[side, begin:end] = [_number(value, name) for value in summary.figures(times)]
        progress((end - 1) / RESAMPLES)
    return figures, [summary.hits for summary in summaries if summary.hits is not None]


def _draw(generator: np.random.Generator, resamples: int, samples: int) -> NDArray[np.int64]:
    """Return how often each resample draws each sample, shape ``(resamples, samples)``."""
    drawn = generator.integers(0, samples, (resamples, samples))
    drawn += samples * np.arange(resamples)[:, np.newaxis]
    times: NDArray[np.int64] = np.bincount(drawn.ravel(), minlength=drawn.size)
    return times.reshape(drawn.shape)


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


def _f1_summary(outputs: Outputs, labels: NDArray[Any]) -> Summary:
    truth, predicted = _answers(outputs, labels)
    right = truth == predicted
    classes = np.unique(truth)
    # A sample counts for its class, for the one that was predicted and, if right, for the hits.
    places = [np.searchsorted(classes, names) for names in (truth, predicted)]
    foreign = (predicted < 0) | ~np.isin(predicted, classes)

    def figures(times: NDArray[np.int64]) -> NDArray[np.float64]:
        present = _by_group(times, places[0], len(classes))
        hits = _by_group(times * right, places[0], len(classes))
        chosen = _by_group(times * ~foreign, places[1] * ~foreign, len(classes))
        counted = present > 0
        scores = np.divide(2 * hits, present + chosen, out=np.zeros(hits.shape), where=counted)
        mean: NDArray[np.float64] = scores.sum(axis=1) / counted.sum(axis=1)
        return mean

    return Summary(figures, Hits("accuracy", accuracy(outputs, labels), labels, np.arange(len(labels))))


def _by_group(
    times: NDArray[np.int64], groups: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Return the sums of columns by group, shape ``(resamples, count)``."""
    order = np.argsort(groups, kind="stable")
    names, begins = np.unique(groups[order], return_index=True)
    sums = np.zeros((len(times), count), dtype=np.int64)
    sums[:, names] = np.add.reduceat(times[:, order], begins, axis=1)
    return sums


f1 = CorpusMetric(figure_of(_f1_summary), _f1_summary)
"""Macro F1: the unweighted mean, over the classes that occur among the labels, of
``2 TP / (2 TP + FP + FN)`` (van Rijsbergen 1979; scikit-learn's ``f1_score(average="macro")`` where
``labels`` are the classes of the truth)."""
