"""How long do the statistics of one verdict take?

    python -m benchmarks.judge_times

CPU time of this process for every judge that computes, on samples of a usual size and of a large
one: median of some repetitions. What the metric itself takes on the outputs of both models
(matching boxes, comparing embeddings, counting answers) stands in a column of its own: any script
that states the figure spends it too. The rest is statistics: resampling and judging. A metric of
your own would be called 2000 times more, and its time is yours. Target: less than 50 ms of
statistics for each verdict of a usual size; mean average precision on 80 classes or more is stated
and has none, because 50 resamples of that many detections are work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import finish, print_context, print_table
from pytest_edgeai.judge.drift import judge_latency_drift
from pytest_edgeai.judge.latency import judge_latency_consistency
from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.perplexity import judge_kl_divergence, judge_token_agreement
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.judge.tail import judge_latency_tail
from pytest_edgeai.measure.corpus import CorpusMetric, corpus_quality, f1
from pytest_edgeai.measure.detection import mean_average_precision
from pytest_edgeai.measure.embedding import embedding, embedding_quality
from pytest_edgeai.records import (
    PairedQuality,
    PairedTimings,
    Relation,
    StabilitySamples,
    Threshold,
    TokenComparison,
    TurnSamples,
    Verdict,
)

LARGEST_MS = 50.0
MANY_CLASSES = 80
Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One verdict.

    Attributes:
        judge: measures and judges.
        metric: the part of it that is no statistics; ``None`` where the judge is given scores.
        has_target: whether its statistics must take less than 50 ms.
    """

    judge: Callable[[], Verdict]
    metric: Callable[[], object] | None = None
    has_target: bool = True


Judged = Callable[[], Verdict]


def limit(value: float, relation: Relation = "more_than") -> Threshold:
    """Return a threshold."""
    return Threshold(value, relation, "benchmark")


def timings(rng: np.random.Generator, rounds: int) -> PairedTimings:
    """Return rounds of 4 and 2 ms with noise of 3%."""
    ns = [(ms * 1e6 * rng.lognormal(0, 0.03, rounds)).astype(np.int64) for ms in (4, 2, 4, 2)]
    none = np.zeros(rounds, np.int64)
    first = rng.random(rounds) < 0.5
    return PairedTimings(ns[0], ns[1], ns[2], ns[3], none, none, first, none)


def turns(rng: np.random.Generator, count: int) -> StabilitySamples:
    """Return turns of 50 calls of 4 and 2 ms."""

    def side(ms: float) -> TurnSamples:
        ns = (ms * 1e6 * rng.lognormal(0, 0.03, (count, 50))).astype(np.int64)
        before = np.arange(count + 1) * 66
        return TurnSamples(
            ns, ns, np.zeros_like(ns), before, 10**8 + 4096 * rng.integers(0, 2, count + 1)
        )

    return StabilitySamples(side(4), side(2), "RssAnon")


def answers(rng: np.random.Generator, n: int, classes: int) -> PairedQuality:
    """Return right and wrong answers of classes; the candidate keeps 97%."""
    right = (rng.random(n) < 0.95).astype(float)
    return PairedQuality(
        "accuracy",
        "proportion",
        right,
        right * (rng.random(n) < 0.97),
        rng.integers(0, classes, n),
    )


def tokens(rng: np.random.Generator, blocks: int) -> TokenComparison:
    """Return blocks of 512 tokens."""
    count = 512 * blocks
    nll = rng.gamma(2, 1, count)
    other = nll + rng.normal(0, 0.1, count)
    divergence = rng.gamma(1, 0.01, count)
    return TokenComparison(
        np.repeat(np.arange(blocks), 512), nll, other, divergence, rng.random(count) < 0.97
    )


def objects(
    rng: np.random.Generator, images: int, classes: int, detections: int
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Return two detectors' answers and the labels, seven objects an image."""
    low = rng.random((images, 7, 2)) * 80
    names = rng.integers(0, classes, (images, 7, 1))
    labels = np.concatenate([low, low + 10 + rng.random((images, 7, 2)) * 25, names], axis=2)
    corner = rng.random((images, detections - 7, 2)) * 80
    false = [corner, corner + 18, rng.random((*corner.shape[:2], 1)) * 0.7]
    false.append(rng.integers(0, classes, (*corner.shape[:2], 1)).astype(float))
    clutter = np.concatenate(false, axis=2)
    scores = 0.3 + 0.7 * rng.random((images, 7, 1))

    def answered(noise: float) -> dict[str, Array]:
        boxes = labels[..., :4] + noise * rng.normal(size=(images, 7, 4))
        true = np.concatenate([boxes, scores, names], axis=2)
        return {"detections": np.concatenate([true, clutter], axis=1)}

    return answered(1.0), answered(1.2), labels


def cases(rng: np.random.Generator) -> dict[str, Case]:
    """Return what is timed, by name."""
    found: dict[str, Case | Judged] = {}
    for rounds in (90, 900):
        measured = timings(rng, rounds)
        found[f"speedup, {rounds} rounds"] = partial(
            judge_speed, measured, limit(1.9, "at_least"), budget_spent=False
        )
        found[f"latency_consistency, {rounds} rounds"] = partial(
            judge_latency_consistency,
            measured,
            limit(1.1, "at_most"),
            absolute_limits_ns={},
            budget_spent=False,
            seed=0,
        )
    for count in (24, 192):
        run = turns(rng, count)
        found[f"latency_tail, {count} turns"] = partial(
            judge_latency_tail, run, limit(0.004, "at_most")
        )
        found[f"latency_drift, {count} turns"] = partial(
            judge_latency_drift, run, limit(1.1, "at_most")
        )
        found[f"memory_growth, {count} turns"] = partial(
            judge_memory_growth, run, limit(2.0**20, "at_most")
        )
    for n in (600, 10_000):
        found[f"accuracy, {n} samples"] = partial(judge_accuracy, answers(rng, n, 10), limit(0.95))
        found[f"slice_retained, {n} samples in {n // 50} classes"] = partial(
            judge_slices, answers(rng, n, n // 50), limit(0.5)
        )
        labels = rng.integers(0, 10, n)
        one, other = (
            {"y": np.where(rng.random(n) < share, labels, (labels + 1) % 10)}
            for share in (0.95, 0.92)
        )
        found[f"f1, {n} samples"] = whole(f1, one, other, labels)
    for images, classes, detections in ((600, 5, 16), (600, 80, 100), (5_000, 80, 100)):
        found[f"mAP, {images} images, {classes} classes, {detections} detections"] = whole(
            mean_average_precision,
            *objects(rng, images, classes, detections),
            has_target=classes < MANY_CLASSES,
        )
    vectors = rng.normal(size=(600, 128)).astype(np.float32)
    moved = (vectors + rng.normal(0, 0.1, vectors.shape)).astype(np.float32)
    found["embedding, 600 samples"] = embedded(
        {"y": vectors}, {"y": moved}, rng.integers(0, 100, 600)
    )
    for blocks in (32, 512):
        text = tokens(rng, blocks)
        found[f"token_agreement, {blocks} blocks"] = partial(
            judge_token_agreement, text, limit(0.95, "at_least")
        )
        found[f"kl_divergence, {blocks} blocks"] = partial(
            judge_kl_divergence, text, limit(0.05, "at_most")
        )
    return {name: case if isinstance(case, Case) else Case(case) for name, case in found.items()}


def whole(
    metric: CorpusMetric,
    one: dict[str, Array],
    other: dict[str, Array],
    labels: Array,
    has_target: bool = True,
) -> Case:
    """Return how two models' answers are compared by a figure of the whole set, and judged."""

    def judge() -> Verdict:
        return judge_accuracy(corpus_quality(metric, "figure", one, other, labels), limit(0.95))

    return Case(judge, lambda: (metric(one, labels), metric(other, labels)), has_target)


def embedded(one: dict[str, Array], other: dict[str, Array], groups: Array) -> Case:
    """Return how two models' embeddings are compared, and judged."""

    def compare() -> PairedQuality:
        return embedding_quality(embedding, "cosine", one, other, groups)

    return Case(lambda: judge_accuracy(compare(), limit(0.95)), compare)


def median_ms(call: Callable[[], object], repetitions: int) -> float:
    """Return the median CPU time of a call, milliseconds."""
    spent = []
    for _ in range(repetitions):
        begin = time.process_time_ns()
        call()
        spent.append((time.process_time_ns() - begin) / 1e6)
    return statistics.median(spent)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7, help="of each verdict")
    arguments = parser.parse_args()
    print_context("numpy", "scipy")
    rows, missed = [], []
    for name, case in cases(np.random.default_rng(0)).items():
        outcome = case.judge().outcome
        both_ms = median_ms(case.judge, arguments.repetitions)
        metric_ms = 0.0 if case.metric is None else median_ms(case.metric, arguments.repetitions)
        took_ms = both_ms - metric_ms
        metric = "-" if case.metric is None else f"{metric_ms:.1f} ms"
        rows.append([name, outcome, metric, f"{took_ms:.1f} ms"])
        if case.has_target and took_ms >= LARGEST_MS:
            missed.append(f"{name}: {took_ms:.0f} ms")
    print_table(("verdict", "outcome", "metric", "statistics"), rows)
    return finish(
        missed, f"less than {LARGEST_MS:g} ms for the statistics of each verdict of a usual size"
    )


if __name__ == "__main__":
    sys.exit(main())
