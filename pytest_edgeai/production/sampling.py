"""Which samples a gate of production asks about, and how many the time allows for."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.workbench import Workbench

SEED = 20
TRIED_CALLS = 3


def chosen_samples(available: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` of ``available`` indices, drawn at random with a fixed seed, in order."""
    drawn = np.random.default_rng(SEED).permutation(available)[:count]
    return np.asarray(np.sort(drawn), dtype=np.int64)


def affordable(
    bench: Workbench, candidate: PlannedCandidate, *, budget_s: float, fewest: int, most: int
) -> int:
    """Return how many samples one pass of the slower model answers in ``budget_s`` seconds.

    Args:
        bench: makes and measures.
        candidate: the candidate, timed beside its baseline.
        budget_s: seconds of one pass.
        fewest: taken whatever it takes.
        most: never more.
    """
    slowest_s = max(
        seconds_per_sample(bench, candidate, loaded)
        for loaded in (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
    )
    return max(fewest, min(most, int(budget_s / max(slowest_s, 1e-9))))


def seconds_per_sample(
    bench: Workbench, candidate: PlannedCandidate, loaded: LoadedRunnable
) -> float:
    """Return the seconds that a model takes for one sample, or one block of text, after a first."""
    model = bench.model(candidate.model.name)
    folder = bench.scratch / candidate.model.name / "sampling"
    if isinstance(loaded, LoadedLanguageRunnable):
        loaded.score(0, folder / "unused", "alone")
        begin = time.perf_counter()
        loaded.score(0, folder / "unused", "alone")
        return time.perf_counter() - begin
    batching = model.samples.batching
    count = min(model.samples.count, TRIED_CALLS * batching.samples_per_call)
    few = Samples(model.samples.arrays, count, batching)
    seconds = [loaded.evaluate(folder, lambda what, done: None, few)[1] for _ in range(2)]
    return seconds[-1] / count
