"""Turns of baseline and candidate over a longer run, shared by the gates of stability."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.verdict import count_text
from pytest_edgeai.measure.stability import Turns, samples, take_turns
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import StabilitySamples
from pytest_edgeai.workbench import Workbench, place, title

STABILITY = "stability"
_SIDES = ("baseline", "candidate")
_COLUMNS = ("wall_ns", "cpu_ns", "preemptions")


def stability(
    bench: Workbench, candidate: PlannedCandidate, decided: Callable[[StabilitySamples], bool]
) -> StabilitySamples:
    """Return turns that decide a question, or all that the budget allowed.

    The gates of stability share one measurement and one budget: turns taken for an earlier gate are
    kept, and added to where they do not decide and seconds are left.

    Args:
        bench: makes and measures.
        candidate: what is watched beside its baseline.
        decided: asked after each part of the measurement.

    Raises:
        EdgeAIError: a model could not be run, or its memory could not be read.
    """
    return bench.guard(
        (STABILITY, candidate.model.name, candidate.comparison),
        lambda: _stability(bench, candidate, decided),
    )


def _stability(
    bench: Workbench, candidate: PlannedCandidate, decided: Callable[[StabilitySamples], bool]
) -> StabilitySamples:
    bench.artifact(candidate)
    name = place(candidate, STABILITY)
    with bench.heavy(title(candidate)):
        turns, spent_s = _read(bench, name)
        valid = all(
            bench.session.catalogue.frameworks[framework].cpu_time_is_valid
            for framework in (candidate.baseline_framework, candidate.recipe.framework)
        )
        left_s = bench.session.settings.budget - spent_s
        if len(turns):
            known = samples(turns, cpu_time_is_valid=valid)
            if left_s <= 0 or decided(known):
                return known
        loaded = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
        measured, seconds = take_turns(
            *loaded,
            turns,
            decided=decided,
            budget_s=left_s,
            generator=random.Random(len(turns)),
            progress=lambda count, _: bench.progress.step(
                title(candidate),
                f"watching it in turns with the {candidate.counterpart} "
                f"({count_text(count, 'turn')})",
            ),
        )
        _write(bench, name, turns, measured, spent_s + seconds)
    return measured


def _write(
    bench: Workbench, name: str, turns: Turns, measured: StabilitySamples, spent_s: float
) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "candidate_first": np.asarray(turns.rounds.order, dtype=np.bool_),
        "spent_s": np.asarray(spent_s),
        "memory_definition": np.asarray(measured.memory_definition),
    }
    for index, (side, watched) in enumerate(
        zip(_SIDES, (measured.baseline, measured.candidate), strict=True)
    ):
        lead_in = np.asarray(turns.rounds.lead_in_wall_ns[index], dtype=np.int64)
        arrays[f"{side}_lead_in_wall_ns"] = lead_in
        for column in (*_COLUMNS, "calls_before", "memory_bytes"):
            values = getattr(watched, column)
            if values is not None:
                arrays[f"{side}_{column}"] = values
    bench.evidence.write_arrays(name, arrays)


def _read(bench: Workbench, name: str) -> tuple[Turns, float]:
    """Return the turns that were measured before, and the seconds that they took."""
    arrays = bench.evidence.read_arrays(name)
    turns = Turns()
    if arrays is None:
        return turns, 0.0
    for index, side in enumerate(_SIDES):
        wall_ns = arrays[f"{side}_wall_ns"]
        turns.kept.append(wall_ns.shape[1])
        for column in _COLUMNS:
            values = arrays.get(f"{side}_{column}", np.zeros_like(wall_ns))
            getattr(turns.rounds, column)[index] = values.reshape(-1).tolist()
        turns.rounds.lead_in_wall_ns[index] = arrays[f"{side}_lead_in_wall_ns"].tolist()
        turns.calls[index] = arrays[f"{side}_calls_before"].tolist()
        turns.memory_bytes[index] = arrays[f"{side}_memory_bytes"].tolist()
    turns.rounds.order = arrays["candidate_first"].astype(np.int64).tolist()
    turns.rounds.attempt = [0] * len(turns.rounds.order)
    turns.definition = str(arrays["memory_definition"])
    return turns, float(arrays["spent_s"])
