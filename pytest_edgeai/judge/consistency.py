"""The gate ``consistency``: the same input gives the same output, whatever runs around it."""

from __future__ import annotations

import math

from pytest_edgeai.judge.verdict import (
    count_text,
    list_text,
    make_verdict,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.production_records import ConditionAnswers, ConsistencySamples
from pytest_edgeai.records import JSON, Threshold, Verdict

GATE = "consistency"
BASELINE_FACTOR = 2.0
"""Times the baseline's own variation that the candidate may vary by under the same condition."""
DEFAULT_ROUNDING = 2.0
"""Times the candidate's own error that its answers may vary by where scales are computed from the
batch: both answers lie within that error of the baseline's, so they differ by twice it at most."""
STATIC_SHARE = 0.25
"""Share of that where scales are constants: another order of summing then moves single values by
one step of quantization, and the error is made of all of them."""
MISSED_RATE = 0.05


def needs_baseline(measured: ConsistencySamples, limit: float) -> bool:
    """Return whether the candidate's answers vary by so much that the baseline has to be asked."""
    return any(
        value > max(limit, measured.resolution.get(name, 0.0))
        for answers in measured.candidate
        for name, value in answers.apart.items()
    )


def judge_consistency(
    measured: ConsistencySamples, threshold: Threshold, *, rounding: float = DEFAULT_ROUNDING
) -> Verdict:
    """Decide whether the answers to the same samples vary by no more than ``threshold``.

    What varies is counted beyond what is explained: the resolution of the output's dtype, twice
    what the baseline varies by under the same condition, and, where threads or samples per call
    change, ``rounding`` times the candidate's own error against the baseline (a quarter of that
    where its scales are constants). ``observed`` is the largest remainder over all outputs and
    conditions, in units of an output's spread; of discrete answers it is a share of elements, and
    one sample that changes with threads or batch is no fault yet.

    Args:
        measured: answers under every condition.
        threshold: relation ``at_most``, unit share, 0 or above.
        rounding: see above.

    Returns:
        A verdict; ``error`` where nothing was compared. ``observed`` is ``None`` where a difference
        is infinite, which always fails.
    """
    require_relation(GATE, threshold, "at_most")
    fault = threshold_fault(threshold, positive=False)
    compared = [answers for answers in measured.candidate if not answers.refused]
    if not fault and (measured.samples < 1 or not compared):
        fault = "no sample was answered twice"
    if fault:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="share",
            samples=measured.samples,
            reason=f"not judged: {fault}",
            advice="check the evaluation data and the threshold",
        )
    limit = math.inf if threshold.value is None else threshold.value
    remainders: dict[tuple[str, str], float] = {}
    faults: list[str] = []
    for answers in compared:
        for name, value in answers.apart.items():
            remainder = _remainder(measured, answers, name, rounding)
            remainders[answers.what, name] = remainder
            if remainder > limit:
                faults.append(_words(measured, answers.what, name, value))
    observed = max(remainders.values(), default=0.0)
    largest = _largest(compared)
    changed = max((answers.changed_decisions for answers in compared), default=0)
    missed = 1 - MISSED_RATE ** (1 / measured.samples)
    details: dict[str, JSON] = {
        "conditions": [_details(measured, answers, rounding) for answers in measured.candidate],
        "changed_decisions": changed,
        "share_of_inputs_excluded": missed,
        "computes_scales": measured.computes_scales,
        "largest_difference": largest if math.isfinite(largest) else None,
    }
    over = f"over {count_text(measured.samples, 'sample')}"
    refused = [f"{a.what} ({a.refused})" for a in measured.candidate if a.refused]
    tail = _changed_words(compared)
    if refused:
        tail += f"; not answered: {list_text(refused, 3)}"
    if faults:
        reason = f"not the same answers {over}: {list_text(faults, 3)}; {limit:.2%} is allowed"
        advice = (
            "look for state that is kept between calls, for kernels that depend on threads or "
            "batch, and for files that are read anew; details name each condition"
        )
    else:
        kinds = dict.fromkeys(_KINDS[answers.kind] for answers in compared)
        reason = f"the same answers {over} across {list_text(kinds)}"
        if largest > 0:
            reason += f", but for {largest:.2g} of the output's spread, which rounding explains"
        reason += f"; a fault that hits {missed:.1%} of the inputs would have shown"
        advice = ""
    return make_verdict(
        GATE,
        "fail" if faults else "pass",
        threshold,
        unit="share",
        reason=reason + tail,
        advice=advice,
        observed=observed if math.isfinite(observed) else None,
        samples=measured.samples,
        details=details,
    )


_KINDS = {
    "repeat": "repeats",
    "reload": "a reload",
    "threads": "thread counts",
    "batch": "batch sizes",
}


def _remainder(
    measured: ConsistencySamples, answers: ConditionAnswers, name: str, rounding: float
) -> float:
    """Return what nothing explains of one output's variation under one condition."""
    value = answers.apart[name]
    beside = _beside(measured, answers)
    varied = beside.apart.get(name, 0.0) if beside is not None else 0.0
    if math.isinf(value) and math.isinf(varied):
        return 0.0
    explained = [measured.resolution.get(name, 0.0), BASELINE_FACTOR * varied]
    if answers.kind in ("threads", "batch"):
        factor = rounding if measured.computes_scales else STATIC_SHARE * rounding
        explained.append(factor * (measured.error or {}).get(name, 0.0))
        if name in measured.discrete:
            explained.append(1 / measured.discrete[name])
    return max(0.0, value - max(explained))


def _beside(measured: ConsistencySamples, answers: ConditionAnswers) -> ConditionAnswers | None:
    """Return the baseline's answers under the same condition, where it was asked."""
    for other in measured.baseline or ():
        if (other.kind, other.what) == (answers.kind, answers.what) and not other.refused:
            return other
    return None


def _largest(compared: list[ConditionAnswers]) -> float:
    return max((value for answers in compared for value in answers.apart.values()), default=0.0)


def _words(measured: ConsistencySamples, what: str, name: str, value: float) -> str:
    if math.isinf(value):
        return f'output "{name}" is not a number on one side {what}'
    if name in measured.discrete:
        return f'{value:.1%} of output "{name}" changes {what}'
    return f'output "{name}" differs by {value:.2%} of its spread {what}'


def _changed_words(compared: list[ConditionAnswers]) -> str:
    most = max(compared, key=lambda answers: answers.changed_decisions)
    if not most.changed_decisions:
        return ""
    text = f"; the decided class changes for {count_text(most.changed_decisions, 'sample')} "
    text += most.what
    if most.widest_margin > 0:
        text += f", which led by at most {most.widest_margin:.2g} of the spread"
    return text


def _details(
    measured: ConsistencySamples, answers: ConditionAnswers, rounding: float
) -> dict[str, JSON]:
    beside = _beside(measured, answers)
    return {
        "kind": answers.kind,
        "what": answers.what,
        "apart": _plain(answers.apart),
        "baseline_apart": _plain(beside.apart) if beside is not None else None,
        "unexplained": _plain(
            {name: _remainder(measured, answers, name, rounding) for name in answers.apart}
        ),
        "changed_decisions": answers.changed_decisions,
        "refused": answers.refused,
    }


def _plain(values: object) -> dict[str, JSON]:
    """Return figures for JSON, which has no infinity: ``None`` stands for it."""
    assert isinstance(values, dict)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
