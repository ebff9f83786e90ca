"""Rules for verdicts that were not reached: how much more has to be measured."""

from __future__ import annotations

import math

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_lines import model_lines, setting_lines
from pytest_edgeai.judge.advice_situation import (
    QUALITY_GATES,
    SPEED_GATES,
    Rule,
    Situation,
    figures,
    names,
)
from pytest_edgeai.judge.verdict import count_text

SPARE_RATIO = 1.2
"""The forecast of rounds is an estimate; this much more is asked for."""


def _more_seconds(s: Situation) -> Advice | None:
    budget_s, deciding = 0.0, []
    for verdict in s.undecided(*SPEED_GATES):
        further, rounds = verdict.details.get("further_rounds"), verdict.details.get("rounds")
        if further and rounds:
            needed_s = SPARE_RATIO * s.budget_s * (rounds + further) / rounds
            budget_s = max(budget_s, needed_s)
            deciding.append(verdict)
    if not deciding:
        return None
    budget = 10 * math.ceil(budget_s / 10)
    further = max(v.details["further_rounds"] for v in deciding)
    return Advice(
        "more-seconds-would-decide",
        f"{', '.join(names(deciding))}: undecided",
        f"{s.budget_s:g} s gave {count_text(deciding[0].details['rounds'], 'round')}, and about "
        f"{further:,} further ones are needed",
        f"give each gate {budget} s",
        setting_lines({"budget": budget}),
        {
            **figures(deciding),
            "budget_s": s.budget_s,
            "further_rounds": further,
        },
        None,
        0.5,
        names(deciding),
    )


def _more_samples(s: Situation) -> Advice | None:
    undecided = s.undecided(*QUALITY_GATES)
    needed = {v.gate: v.details["samples_needed"] for v in undecided if _needs(v.details)}
    if not needed or not s.data_source or s.evaluation_samples is None:
        return None
    gates = tuple(v for v in undecided if v.gate in needed)
    whole = needed.get("accuracy_retained")
    cause = "; ".join(f"{gate} needs about {n:,}" for gate, n in needed.items())
    if whole:
        remark = f"with about {whole:,} samples"
        remedy = f"put {max(1, whole - s.evaluation_samples):,} more samples into it"
    else:
        remark = f"with about {max(needed.values()):,} samples of the part that is named"
        remedy = "put more samples of that part into it"
    return Advice(
        "more-samples-would-decide",
        f"{', '.join(needed)}: undecided",
        f"the evaluation data has {count_text(s.evaluation_samples, 'sample')}, and {cause}",
        remedy,
        model_lines(s.model, "data", s.data_source, remark),
        {**figures(gates), "samples": s.evaluation_samples, "samples_needed": needed},
        None,
        0.5,
        tuple(needed),
    )


def _needs(details: object) -> bool:
    needed = details.get("samples_needed") if hasattr(details, "get") else None
    return isinstance(needed, (int, float)) and needed > 0


RULES = (
    Rule(
        "more-seconds-would-decide",
        "A gate of speed is undecided, and the rounds that would decide it are known: the budget "
        "they take.",
        _more_seconds,
        "the rounds that were timed",
    ),
    Rule(
        "more-samples-would-decide",
        "A gate of quality is undecided, and the samples that would decide it are known.",
        _more_samples,
        "the evaluation data",
    ),
)
