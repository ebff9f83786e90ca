"""The gate ``membership_inference``: does the candidate give away who was trained on?

An attacker orders samples by how much a model's answer looks like that of a training sample. The
area under the ROC curve (AUC) of that order is 0.5 where nothing is given away. Judged is the
candidate's AUC less the baseline's on the same samples, by the test of DeLong, DeLong and
Clarke-Pearson (1988) for correlated curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pytest_edgeai.judge.statistics import Decision
from pytest_edgeai.judge.verdict import (
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.privacy_records import MembershipScores
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "membership_inference"
ERROR_RATE = 0.05
"""Bound on the probability of each wrong decision, for a candidate exactly at the threshold."""
ALPHA = 0.025
"""Level that the test is taken at to keep it: with areas of 0.9 and more and few samples, it errs
in up to twice its level (tests/unit/judge/test_membership_inference.py simulates that)."""
MINIMUM_SAMPLES = 50
"""Members, and others, below which the test's approximation is not relied on."""
MOST_SAMPLES_NAMED = 1_000_000


@dataclass(frozen=True)
class AucDifference:
    """Two areas under ROC curves of the same samples.

    Attributes:
        baseline: the baseline's AUC.
        candidate: the candidate's.
        error: standard error of their difference.
        freedom: degrees of freedom that Student's t is taken with.
    """

    baseline: float
    candidate: float
    error: float
    freedom: int

    @property
    def value(self) -> float:
        """The candidate's AUC less the baseline's."""
        return self.candidate - self.baseline

    def bound(self, alpha: float) -> float:
        """Return how far the difference may lie off, one-sided at ``alpha``."""
        return -float(special.stdtrit(self.freedom, alpha)) * self.error


def compare_auc(scores: MembershipScores) -> AucDifference:
    """Return both areas and the error of their difference (DeLong et al. 1988).

    By midranks, as Sun and Xu (2014), "Fast implementation of DeLong's algorithm".

    Raises:
        ValueError: for fewer than two members or two others.
    """
    members, others = len(scores.members["baseline"]), len(scores.others["baseline"])
    if min(members, others) < 2:
        raise ValueError(f"two of each are needed, got {members} members and {others} others")
    areas: list[float] = []
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for side in ("baseline", "candidate"):
        inside, outside = scores.members[side], scores.others[side]
        ranks = midranks(np.concatenate([inside, outside]))
        by_member = (ranks[:members] - midranks(inside)) / others
        by_other = 1 - (ranks[members:] - midranks(outside)) / members
        areas.append(float(by_member.mean()))
        parts.append((by_member, by_other))
    variance = sum(
        float(np.var(candidate - baseline, ddof=1)) / len(baseline)
        for baseline, candidate in zip(*parts, strict=True)
    )
    return AucDifference(areas[0], areas[1], math.sqrt(variance), min(members, others) - 1)


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of values from 1 on; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse.reshape(-1)], dtype=np.float64)


def judge_membership_inference(
    attacks: Sequence[MembershipScores], threshold: Threshold, *, alpha: float = ALPHA
) -> Verdict:
    """Decide whether the candidate's AUC is no more than the baseline's by the threshold.

    It passes where every attack's difference is shown to lie below the threshold (Berger 1982: the
    intersection of tests at ``alpha`` is one at ``alpha``), and fails where one of them is shown to
    lie above it, at ``alpha`` divided by the number of attacks. Each errs for a candidate exactly
    at the threshold with a probability of at most :data:`ERROR_RATE`.

    Args:
        attacks: what each attack saw of the same samples; at least one.
        threshold: ``at_most``; AUC, at least 0.
        alpha: level of the test.

    Returns:
        A verdict; ``observed`` is the largest difference of AUC with its two-sided interval at
        ``1 - 2 alpha``. ``inconclusive`` with the number of samples needed where that is open;
        ``error`` where a score is NaN.
    """
    require_relation(GATE, threshold, "at_most")
    members = len(attacks[0].members["baseline"])
    others = len(attacks[0].others["baseline"])
    fault = threshold_fault(threshold, positive=False)
    if fault or threshold.value is None or not all(map(_is_known, attacks)):
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="AUC",
            reason=f"not judged: {fault or 'an attack has no score for some samples'}",
            advice="check the model's outputs and the threshold",
        )
    counts: dict[str, JSON] = {"members": members, "others": others}
    if min(members, others) < MINIMUM_SAMPLES:
        return make_verdict(
            GATE,
            "inconclusive",
            threshold,
            unit="AUC",
            samples=members + others,
            reason=f"{members} members and {others} evaluation samples are too few to tell",
            advice=f"give at least {MINIMUM_SAMPLES} of each",
            details=counts,
        )
    compared = {attack.attack: compare_auc(attack) for attack in attacks}
    decisions = {
        name: _decide(difference, threshold.value, alpha, alpha / len(attacks))
        for name, difference in compared.items()
    }
    worst = max(compared, key=lambda name: compared[name].value)
    if "fail" in decisions.values():
        worst = max(
            (n for n in compared if decisions[n] == "fail"), key=lambda n: compared[n].value
        )
    shown = compared[worst]
    wide = shown.bound(alpha)
    outcome, reason, advice = _outcome(compared, decisions, worst, threshold.value, alpha, counts)
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="AUC",
        reason=reason,
        advice=advice,
        observed=shown.value,
        interval=(shown.value - wide, shown.value + wide),
        confidence=1 - 2 * alpha,
        samples=members + others,
        details={
            **counts,
            "attack": worst,
            "attacks": {
                name: {
                    "baseline_auc": difference.baseline,
                    "candidate_auc": difference.candidate,
                    "difference": difference.value,
                    "standard_error": difference.error,
                    "decision": decisions[name],
                }
                for name, difference in compared.items()
            },
            "error_rate": ERROR_RATE,
        },
    )


def _is_known(attack: MembershipScores) -> bool:
    sides = (*attack.members.values(), *attack.others.values())
    return not any(np.isnan(scores).any() for scores in sides)


def _decide(
    difference: AucDifference, limit: float, alpha: float, alpha_to_fail: float
) -> Decision:
    if difference.value + difference.bound(alpha) <= limit:
        return "pass"
    if difference.value - difference.bound(alpha_to_fail) > limit:
        return "fail"
    return "undecided"


def _outcome(
    compared: dict[str, AucDifference],
    decisions: dict[str, Decision],
    worst: str,
    limit: float,
    alpha: float,
    counts: dict[str, JSON],
) -> tuple[Outcome, str, str]:
    """Return outcome, reason and advice."""
    shown = compared[worst]
    areas = (
        f"the {worst} attack tells members apart with an AUC of {shown.candidate:.3f}, "
        f"and on the baseline with {shown.baseline:.3f}"
    )
    if decisions[worst] == "fail":
        return (
            "fail",
            areas,
            "make it with calibration data that are no training samples, and without fine-tuning "
            "on few of them",
        )
    if set(decisions.values()) == {"pass"}:
        return "pass", f"{areas}: at most {percent_text(limit)} more is shown", ""
    needed = max(
        _samples_needed(compared[name], limit, alpha, min(counts["members"], counts["others"]))
        for name in compared
        if decisions[name] != "pass"
    )
    if needed > MOST_SAMPLES_NAMED:
        advice = "its difference lies so close to the limit that no practical number decides"
    else:
        advice = f"give about {needed:,} members and as many evaluation samples"
    return "inconclusive", f"{areas}, which is within chance of the limit", advice


def _samples_needed(difference: AucDifference, limit: float, alpha: float, have: int) -> int:
    """Return about how many members, and others, decide if the difference stays as it is.

    The standard error falls with the root of the number; with half a standard error to spare, as
    otherwise the next sample would decide in half of all cases.
    """
    distance = abs(limit - difference.value)
    if not distance:
        return MOST_SAMPLES_NAMED + 1
    spare = -float(special.ndtri(alpha)) + 0.5
    return max(have + 1, math.ceil(have * (spare * difference.error / distance) ** 2))
