"""Metrics of a whole evaluation set: a figure that is no mean over samples, and its resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.metrics import accuracy, check_labels, class_output
from pytest_edgeai.records import LEFT_OUT, PairedQuality

BOOTSTRAP_RESAMPLES = 1000
BOOTSTRAP_PARTS = 20
"""Parts of them between which progress is told."""
GROUPS = 50
"""Groups of a jackknife: its t quantile is 2% above the normal one."""
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

    def whole(self, samples: int) -> float:
        """Return the figure of the whole set of so many samples."""
        return float(self.figures(np.ones((1, samples), dtype=np.int64))[0])


@dataclass(frozen=True)
class CorpusMetric:
    """A metric of kind ``corpus``.

    Attributes:
        figure: called with ``(outputs, labels)``; returns one number from 0, higher is better.
        summarize: called with the same, for a figure that changes little with each sample that is
            left out (a mean, a share, an area; no median). ``None``: nothing is known of it, and
            ``figure`` is called on the rows of each bootstrap resample, which takes as long each
            time.
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
        return summarize(outputs, labels).whole(len(labels))

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
    """Return the figures of both models on the whole set and on paired resamples of it.

    A metric with a summary is computed on the samples without one of 50 random groups at a time
    (delete-a-group jackknife). For any other one, of which nothing is known, samples are drawn with
    replacement 1000 times (Efron and Tibshirani 1993). Both models see the same resamples, of a
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
        summaries = [wrapped.summary(side, labels, name) for side in (baseline, candidate)]
        whole = [
            summary.whole(len(labels)) if wrapped.summarize else wrapped(side, labels)
            for summary, side in zip(summaries, (baseline, candidate), strict=True)
        ]
        figures = _figures(summaries, whole, _resamples(wrapped, len(labels)), name, progress)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f'metric "{name}" raised {type(error).__name__}: {error}') from error
    hits = [summary.hits for summary in summaries if summary.hits is not None]
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
        resamples=figures,
        parts=parts,
    )


@dataclass(frozen=True, eq=False)
class _Resamples:
    """How often each sample is drawn in each resample, and how much of the set it leaves out."""

    times: Iterator[NDArray[np.int64]]
    count: int
    left_out: NDArray[np.float64] | None = None


def _resamples(metric: CorpusMetric, samples: int) -> _Resamples:
    generator = np.random.default_rng(SEED)
    if metric.summarize is None or samples < GROUPS:
        return _Resamples(_bootstrap(generator, samples), BOOTSTRAP_RESAMPLES)
    group = generator.permutation(samples) % GROUPS
    kept = group != np.arange(GROUPS)[:, np.newaxis]
    return _Resamples(iter([kept.astype(np.int64)]), GROUPS, 1.0 - kept.mean(axis=1))


def _bootstrap(generator: np.random.Generator, samples: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each sample is drawn, shape ``(resamples, samples)``, in parts."""
    for _ in range(BOOTSTRAP_PARTS):
        resamples = BOOTSTRAP_RESAMPLES // BOOTSTRAP_PARTS
        drawn = generator.integers(0, samples, (resamples, samples))
        drawn += samples * np.arange(resamples)[:, np.newaxis]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def _figures(
    summaries: Sequence[Summary],
    whole: Sequence[float],
    drawn: _Resamples,
    name: str,
    progress: Callable[[float], None],
) -> dict[str, NDArray[np.float64]]:
    """Return the figures of both models on the whole set and on the resamples."""
    figures = np.empty((2, 1 + drawn.count))
    figures[:, 0] = [_number(value, name) for value in whole]
    done = 1
    for times in drawn.times:
        for side, summary in enumerate(summaries):
            found = [_number(value, name) for value in summary.figures(times)]
            figures[side, done : done + len(times)] = found
        done += len(times)
        progress((done - 1) / drawn.count)
    resamples = {"baseline": figures[0], "candidate": figures[1]}
    if drawn.left_out is not None:
        resamples[LEFT_OUT] = np.concatenate([[0.0], drawn.left_out])
    return resamples


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

    return Summary(
        figures, Hits("accuracy", accuracy(outputs, labels), labels, np.arange(len(labels)))
    )


def _by_group(times: NDArray[np.int64], groups: NDArray[np.int64], count: int) -> NDArray[np.int64]:
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
