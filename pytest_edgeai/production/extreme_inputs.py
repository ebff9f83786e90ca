"""The gate ``extreme_inputs``: both models meet inputs that nobody should send."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_edgeai.judge.extreme_inputs import GATE, judge_extreme_inputs
from pytest_edgeai.measure.extreme_inputs import (
    Subject,
    Trial,
    extreme_inputs,
    extreme_tokens,
    first_call,
    try_extremes,
)
from pytest_edgeai.measure.tokens import INPUT_IDS
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import ExtremeAnswer, ExtremeCase
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

CALL_LIMIT = "extreme_inputs_time_limit_s"
"""Key of the ``[gates]`` table: how long one call may take."""
PROMPT_TOKENS = 16


def decide_extreme_inputs(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Zeros, NaN, infinity, empty, oversize and wrong inputs, each followed by a reference."""
    key = (GATE, candidate.model.name, candidate.comparison)
    return judge_extreme_inputs(bench.once(key, lambda: _measure(bench, candidate)), threshold)


def _measure(bench: Workbench, candidate: PlannedCandidate) -> list[ExtremeCase]:
    bench.check_loadable(candidate)
    runnables = (bench.baseline_runnable(candidate), bench.candidate_runnable(candidate))
    model = bench.model(candidate.model.name)
    stated = bench.session.gate_setting(candidate, CALL_LIMIT)
    name = place(candidate, GATE)
    with bench.heavy(title(candidate)):
        kept = bench.evidence.read_record(name)
        if kept is not None:
            return [_case(case) for case in kept["cases"]]
        bench.progress.step(title(candidate), "trying extreme inputs")
        context = model.language.context_tokens if model.language else None
        reference = first_call(model.evaluation.arrays, model.samples.batching)
        if model.language is not None:
            reference = {
                INPUT_IDS: model.evaluation.arrays[INPUT_IDS][0, :PROMPT_TOKENS].astype(np.int32)
            }
        folder = bench.scratch / candidate.model.name / GATE / candidate.comparison
        limit_s = bench.session.settings.time_limit
        try:
            with (
                Trial(Subject(runnables[0], context), reference, folder / "0", limit_s) as baseline,
                Trial(Subject(runnables[1], context), reference, folder / "1", limit_s) as other,
            ):
                if context is not None:
                    inputs = extreme_tokens(reference[INPUT_IDS], other.vocabulary, context)
                else:
                    seconds = max(baseline.seconds, other.seconds)
                    batching = model.samples.batching
                    inputs = extreme_inputs(reference, model.facts.inputs, batching, seconds)
                cases = try_extremes(
                    baseline,
                    other,
                    inputs,
                    call_limit_s=None if stated is None else float(stated),
                    progress=lambda what, done: bench.progress.step(
                        title(candidate), f"trying extreme inputs: {what}", done
                    ),
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        bench.evidence.write_record(name, {"cases": cases})
    return cases


def _case(record: Mapping[str, Any]) -> ExtremeCase:
    """Return the record that was kept as evidence."""
    return ExtremeCase(
        record["name"],
        record["is_valid"],
        ExtremeAnswer(**record["baseline"]),
        ExtremeAnswer(**record["candidate"]),
    )
