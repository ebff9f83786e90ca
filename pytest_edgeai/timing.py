"""Interleaved timings of one candidate and its baseline, kept as evidence and added to."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from pytest_edgeai.judge.procedure import choose
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.judge.verdict import count_text
from pytest_edgeai.language_measurements import timed
from pytest_edgeai.measure.bench import LoadedRunnable, close_all
from pytest_edgeai.measure.language import Phase
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.restarts import interleave_starts
from pytest_edgeai.measure.rounds import Rounds, paired
from pytest_edgeai.measure.timed import Timed
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import PairedTimings
from pytest_edgeai.workbench import Workbench, place, title

_SIDES = ("baseline", "candidate")
TIMINGS: Mapping[Phase, str] = {
    "decode": "timings",
    "prefill": "prefill-timings",
    "first_token": "first-token-timings",
}
_FIELDS = tuple(field.name for field in dataclasses.fields(PairedTimings))


def timings(
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[PairedTimings], bool],
    phase: Phase = "decode",
) -> tuple[PairedTimings, bool]:
    """Return interleaved timings that decide a question, or all that the budget allowed.

    Rounds taken for an earlier gate are kept and added to.

    Args:
        bench: makes and measures.
        candidate: what is timed beside its baseline.
        decided: asked every few rounds.
        phase: what a language model does in a timed call; any other model answers its samples.

    Returns:
        The timings, and whether the budget was spent without a decision.

    Raises:
        EdgeAIError: a model could not be run.
    """
    return bench.guard(
        (TIMINGS[phase], candidate.model.name, candidate.comparison),
        lambda: _timings(bench, candidate, decided, phase),
    )


def _timings(
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[PairedTimings], bool],
    phase: Phase,
) -> tuple[PairedTimings, bool]:
    bench.artifact(candidate)
    name = place(candidate, TIMINGS[phase])
    with bench.heavy(title(candidate)):
        rounds = _read_rounds(bench, name)
        valid = all(
            bench.session.catalogue.frameworks[name].cpu_time_is_valid
            for name in (candidate.baseline_framework, candidate.recipe.framework)
        )
        if len(rounds):
            known = paired(rounds, cpu_time_is_valid=valid)
            if decided(known):
                return known, False
        measured, spent = _measure(bench, candidate, rounds, decided, phase, valid)
    arrays = {name: values for name in _FIELDS if (values := getattr(measured, name)) is not None}
    for side, lead_in in zip(_SIDES, rounds.lead_in_wall_ns, strict=True):
        arrays[f"{side}_lead_in_wall_ns"] = np.asarray(lead_in, dtype=np.int64)
    bench.evidence.write_arrays(name, arrays)
    return measured, spent


def _measure(
    bench: Workbench,
    candidate: PlannedCandidate,
    rounds: Rounds,
    decided: Callable[[PairedTimings], bool],
    phase: Phase,
    cpu_time_is_valid: bool,
) -> tuple[PairedTimings, bool]:
    """Add rounds of the loaded pair, or of one pair after the other where a pair can mislead."""
    settings = bench.session.settings

    def progress(count: int, seconds: float) -> None:
        what = f"timing in turns with the {candidate.counterpart} ({count_text(count, 'round')})"
        bench.progress.step(title(candidate), what)

    def waiting(count: int, seconds: float) -> None:
        what = f"waiting {seconds:.3g} s for other processes ({count} rounds are kept)"
        bench.progress.step(title(candidate), what)

    @contextmanager
    def start() -> Iterator[tuple[Timed, Timed]]:
        models: list[LoadedRunnable] = []
        runnables = [bench.baseline_runnable(candidate), bench.candidate_runnable(candidate)]
        try:
            # Nothing is timed while they start, and starting is what most of the time goes into.
            with ThreadPoolExecutor(len(runnables)) as pool:
                started = [
                    pool.submit(bench.load, candidate.model.name, each, candidate)
                    for each in runnables
                ]
            models += [future.result() for future in started if future.exception() is None]
            for future in started:
                future.result()
            yield timed(models[0], phase), timed(models[1], phase)
        finally:
            close_all(models)

    procedure = choose(
        0.0,
        threads=candidate.threads(bench.session.settings.threads),
        cpu_time_is_valid=cpu_time_is_valid,
        clock=settings.clock,
    )
    if procedure.restarts:
        return interleave_starts(
            start,
            rounds,
            rounds_per_start=procedure.block,
            decided=decided,
            is_contended=is_contended,
            budget_s=settings.budget,
            generator=random.Random(len(rounds)),
            progress=progress,
            waiting=waiting,
        )
    return interleave(
        timed(bench.loaded_baseline(candidate), phase),
        timed(bench.loaded_candidate(candidate), phase),
        rounds,
        decided=decided,
        is_contended=is_contended,
        budget_s=settings.budget,
        generator=random.Random(len(rounds)),
        progress=progress,
        waiting=waiting,
    )


def _read_rounds(bench: Workbench, name: str) -> Rounds:
    arrays = bench.evidence.read_arrays(name)
    rounds = Rounds.of(2)
    if arrays is None:
        return rounds
    zeros = np.zeros_like(arrays["baseline_wall_ns"])
    for index, side in enumerate(_SIDES):
        rounds.lead_in_wall_ns[index] = arrays[f"{side}_lead_in_wall_ns"].tolist()
        rounds.wall_ns[index] = arrays[f"{side}_wall_ns"].tolist()
        rounds.cpu_ns[index] = arrays.get(f"{side}_cpu_ns", zeros).tolist()
        rounds.preemptions[index] = arrays[f"{side}_preemptions"].tolist()
    rounds.order = np.where(arrays["baseline_first"], 0, 1).tolist()
    rounds.core = arrays.get("core", zeros - 1).tolist()
    counts = (arrays[f"{side}_preemptions"] > 0 for side in _SIDES)
    rounds.preempted = (sum(counts, zeros) / len(_SIDES)).tolist()
    for name in ("attempt", "wait_before_round", "wait_ns", "warm_up_calls", "warm_up_settled"):
        setattr(rounds, name, arrays[name].tolist())
    return rounds
