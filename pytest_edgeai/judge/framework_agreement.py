"""The gate ``framework_agreement``: other frameworks answer the unoptimized model the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_edgeai.judge.perplexity import judge_token_agreement
from pytest_edgeai.judge.statistics import Decision, binomial_at_most, quantile_samples_needed
from pytest_edgeai.judge.tail import exact_bounds
from pytest_edgeai.judge.verdict import (
    count_text,
    list_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
    worst,
)
from pytest_edgeai.production_records import FrameworkAnswers
from pytest_edgeai.records import JSON, Outcome, Threshold, TokenComparison, Verdict

GATE = "framework_agreement"
ALPHA = 0.05


def samples_needed(limit: float, disagreeing: int = 0, *, alpha: float = ALPHA) -> int | None:
    """Return the fewest samples that prove a share above ``limit``; ``None`` where none can.

    Args:
        limit: the share.
        disagreeing: how many of them disagree.
        alpha: one-sided error.
    """
    if limit >= 1:
        return None
    return 1 if limit <= 0 else quantile_samples_needed(limit, 1 - alpha, disagreeing)


def judge_framework_agreement(
    answers: Sequence[FrameworkAnswers],
    threshold: Threshold,
    *,
    reference: str,
    alike: str,
    available: int,
    alpha: float = ALPHA,
) -> Verdict:
    """Decide whether frameworks agree with the model's own on at least ``threshold`` of samples.

    By the exact binomial distribution (Clopper and Pearson 1934); of language models by the t-test
    over blocks of text. It passes if every framework that counts does, each at ``alpha``; with a
    threshold of 1 every available sample has to agree.

    Args:
        answers: one record for each framework that answered; at least one that counts.
        threshold: relation ``at_least``, unit share.
        reference: the framework that answers the model's own file.
        alike: what counts as the same answer, in words.
        available: samples that could have been asked about.
        alpha: probability of passing where the share is exactly the threshold.

    Returns:
        A verdict with the least share of those that count; ``error`` where none gave an answer,
        ``not_applicable`` without a threshold.
    """
    require_relation(GATE, threshold, "at_least")
    judged = [each for each in answers if each.counts and len(each.agrees)]
    fault = threshold_fault(threshold, positive=False)
    if not fault and not judged:
        fault = "no framework gave a comparable answer"
    if fault:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="share",
            reason=f"not judged: {fault}",
            advice="see what the frameworks say in the details",
            details={"frameworks": {each.framework: _details(each) for each in answers}},
        )
    outcomes = [_outcome(each, threshold, available, alpha) for each in judged]
    outcome = worst(outcomes)
    least = min(judged, key=lambda each: _share(each))
    interval = _interval(least, alpha)
    words = [f"{each.framework} {_words(each)}" for each in judged]
    reason = f"{reference} and {list_text(words)}"
    if threshold.value is not None:
        reason += f", at least {percent_text(threshold.value)} required; alike is {alike}"
    advice = (
        "look at the samples that differ in the evidence; export the model anew, with another "
        "opset or without fused operators"
    )
    needed = None
    if outcome == "inconclusive" and threshold.value is not None:
        undecided = judged[outcomes.index("inconclusive")]
        disagreeing = int(np.count_nonzero(~undecided.agrees))
        needed = samples_needed(threshold.value, disagreeing, alpha=alpha)
        reason, advice = _with_need(reason, undecided, needed, available)
    beside = [
        f"{each.framework} {each.problem or _words(each)}"
        for each in answers
        if not (each.counts and len(each.agrees))
    ]
    if beside:
        reason += f"; beside it {list_text(beside, 3)}"
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="share",
        reason=reason,
        advice=advice,
        observed=_share(least),
        interval=interval,
        confidence=1 - 2 * alpha,
        samples=len(least.agrees),
        details={
            "reference": reference,
            "frameworks": {each.framework: _details(each) for each in answers},
            "alike": alike,
            "samples_needed": needed,
            "error_rate": alpha * len(judged),
        },
    )


def _share(answers: FrameworkAnswers) -> float:
    if answers.blocks is None:
        return float(answers.agrees.mean())
    counts = np.bincount(answers.blocks)
    return float((np.bincount(answers.blocks, weights=answers.agrees) / counts).mean())


def _outcome(
    answers: FrameworkAnswers, threshold: Threshold, available: int, alpha: float
) -> Outcome:
    limit = threshold.value
    if limit is None:
        return "not_applicable"
    n, agreeing = len(answers.agrees), int(np.count_nonzero(answers.agrees))
    if limit <= 0:
        return "pass"
    if limit >= 1:
        asked = n if answers.blocks is None else len(np.unique(answers.blocks))
        if agreeing < n:
            return "fail"
        return "pass" if asked >= available else "inconclusive"
    if answers.blocks is not None:
        return judge_token_agreement(_tokens(answers), threshold, alpha=alpha).outcome
    decision: Decision = "undecided"
    if float(binomial_at_most(n - agreeing, n, 1 - limit)) <= alpha:
        decision = "pass"
    elif float(binomial_at_most(agreeing, n, limit)) <= alpha:
        decision = "fail"
    return "inconclusive" if decision == "undecided" else decision


def _interval(answers: FrameworkAnswers, alpha: float) -> tuple[float | None, float | None]:
    """Return the bounds of the share: exact for samples, by Student's t for blocks of text."""
    if answers.blocks is not None:
        found = judge_token_agreement(_tokens(answers), Threshold(None, "at_least"), alpha=alpha)
        return found.interval or (None, None)
    n, k = len(answers.agrees), int(np.count_nonzero(answers.agrees))
    return exact_bounds(k, n, alpha)


def _tokens(answers: FrameworkAnswers) -> TokenComparison:
    assert answers.blocks is not None
    unknown = np.zeros(len(answers.agrees))
    return TokenComparison(answers.blocks, unknown, unknown, unknown, answers.agrees)


def _with_need(
    reason: str, undecided: FrameworkAnswers, needed: int | None, available: int
) -> tuple[str, str]:
    if undecided.blocks is not None:
        return f"too little text to decide: {reason}", "add text"
    reason = f"too few samples to decide: {reason}"
    if needed is None or needed <= len(undecided.agrees):
        return reason, "ask about every sample: --edge-profile=release, or a larger --edge-budget"
    reason += f"; {needed:,} samples would"
    if needed <= available:
        return reason, "give it more time: --edge-profile=release, or a larger --edge-budget"
    return reason, f"add evaluation samples, to {needed:,} in all"


def _words(answers: FrameworkAnswers) -> str:
    if answers.blocks is not None:
        blocks = len(np.unique(answers.blocks))
        return f"predict {percent_text(_share(answers))} of the tokens of {blocks} blocks alike"
    n = len(answers.agrees)
    text = f"answer {percent_text(_share(answers))} of {count_text(n, 'sample')} alike"
    if answers.apart:
        text += f" (largest difference {max(answers.apart.values()):.2g} of the output's spread"
        text += (
            ""
            if answers.changed_decisions is None
            else (f", another class for {answers.changed_decisions:,}")
        )
        text += ")"
    return text


def _details(answers: FrameworkAnswers) -> dict[str, JSON]:
    finite = {n: v if np.isfinite(v) else None for n, v in answers.apart.items()}
    return {
        "counts": answers.counts,
        "share": _share(answers) if len(answers.agrees) else None,
        "apart": finite,
        "changed_decisions": answers.changed_decisions,
        "problem": answers.problem,
    }
