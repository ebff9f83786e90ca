"""The gate ``extreme_inputs``: a defined answer or a clean refusal, whatever is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_edgeai.judge.verdict import count_text, list_text, make_verdict
from pytest_edgeai.production_records import ExtremeAnswer, ExtremeCase
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "extreme_inputs"
_SHOWN = 4
_BROKEN = ("crashed", "hung")
_OUT_OF_MEMORY = "out of memory"


def judge_extreme_inputs(cases: Sequence[ExtremeCase], threshold: Threshold) -> Verdict:
    """Decide whether the candidate survives every extreme input.

    A crash, a hang and a reference answer that changed afterwards are faults whatever the baseline
    does: a process that dies takes every other user's requests with it. What the baseline shares is
    named so. On an input that is finite and of the right type and shape the candidate must answer
    where the baseline does, and without NaN where all of the baseline's numbers are finite;
    infinity is an answer, since a format of fewer bits overflows sooner. Inputs that were not tried
    any more prevent a pass, and so does a process of each side that the kernel may have ended for
    lack of memory, which says more about the machine than about the candidate.

    Args:
        cases: what both did.
        threshold: relation ``at_most``, 0 faults.

    Returns:
        A verdict; ``error`` where nothing was tried, ``not_applicable`` without a threshold.
    """
    if threshold.value is None:
        return make_verdict(
            GATE, "not_applicable", threshold, unit="faults", reason="no threshold is set"
        )
    if not cases:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="faults",
            reason="not judged: no extreme input was tried",
        )
    faults = [fault for case in cases if (fault := _fault(case))]
    doubts = [doubt for case in cases if (doubt := _doubt(case))]
    answers = [case.candidate.kind for case in cases]
    outcome: Outcome = "pass"
    if len(faults) > threshold.value:
        outcome = "fail"
        reason = (
            f"{count_text(len(faults), 'fault')} on {count_text(len(cases), 'extreme input')}: "
            f"{list_text(faults, _SHOWN)}"
        )
        advice = "check inputs before they reach the model, or report it to the runtime's makers"
    elif doubts:
        outcome = "inconclusive"
        reason = list_text(doubts, _SHOWN)
        advice = "run it on a machine with more memory"
    else:
        reason = (
            f"none of {count_text(len(cases), 'extreme input')} crashes, hangs or poisons it: "
            f"{answers.count('answered')} answered, {answers.count('refused')} cleanly refused, "
            "and the reference sample answered as before after each"
        )
        advice = ""
    details: dict[str, JSON] = {
        "faults": faults,
        "inputs": {
            case.name: {"baseline": _plain(case.baseline), "candidate": _plain(case.candidate)}
            for case in cases
        },
    }
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="faults",
        reason=reason,
        advice=advice,
        observed=float(len(faults)),
        samples=len(cases),
        details=details,
    )


def _fault(case: ExtremeCase) -> str:
    """Return what is wrong with the candidate's answer; empty where nothing is."""
    baseline, candidate = case.baseline, case.candidate
    if _is_machine(case):
        return ""
    if candidate.kind in _BROKEN:
        return f"{case.name}: {_breakdown(candidate)} ({_beside(baseline, candidate.kind)})"
    if candidate.poisoned:
        shared = "the baseline's too" if baseline.poisoned else "the baseline's is as before"
        return (
            f"{case.name}: afterwards the reference sample is answered otherwise: "
            f"{candidate.poisoned} ({shared})"
        )
    if not case.is_valid or baseline.kind != "answered":
        return ""
    if candidate.kind == "refused":
        return f"{case.name}: refused ({candidate.what}), and the baseline answers"
    if baseline.nan or baseline.infinite:
        return ""
    if candidate.nan:
        return f"{case.name}: {candidate.nan:,} NaN in the answer, and none in the baseline's"
    return ""


def _breakdown(answer: ExtremeAnswer) -> str:
    return f"hangs, {answer.what}" if answer.kind == "hung" else f"crashes, {answer.what}"


def _beside(baseline: ExtremeAnswer, kind: str) -> str:
    if baseline.kind == kind:
        return "the baseline does so too"
    return {
        "answered": "the baseline answers",
        "refused": "the baseline refuses it cleanly",
        "crashed": "the baseline crashes",
        "hung": "the baseline hangs",
        "not_tried": "the baseline was not tried",
    }[baseline.kind]


def _doubt(case: ExtremeCase) -> str:
    """Return why a case decides nothing; empty where it does."""
    if _is_machine(case):
        return f"{case.name}: both were killed for lack of memory, perhaps: not judged"
    if case.candidate.kind == "not_tried":
        return f"{case.name}: not tried, {case.candidate.what}"
    return ""


def _is_machine(case: ExtremeCase) -> bool:
    sides = (case.baseline, case.candidate)
    return all(side.kind == "crashed" and _OUT_OF_MEMORY in side.what for side in sides)


def _plain(answer: ExtremeAnswer) -> dict[str, Any]:
    """Return an answer without the fields that say nothing."""
    plain: dict[str, Any] = {"kind": answer.kind}
    for name in ("what", "nan", "infinite", "poisoned"):
        value = getattr(answer, name)
        if value:
            plain[name] = value
    return plain
