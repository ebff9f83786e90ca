"""The gate ``recovery``: whether failures end in right answers again, and how soon."""

from __future__ import annotations

import math

from pytest_edgeai.judge.verdict import (
    count_text,
    list_text,
    make_verdict,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.production_records import RecoverySamples, RecoveryScenario
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "recovery"
NOTHING_TO_COMPARE = 0.1
"""A model whose own answers differ by as much of their range has none that could be called
wrong."""


def judge_recovery(samples: RecoverySamples, threshold: Threshold) -> Verdict:
    """Decide whether a serving process comes back from every failure in time, and never wrong.

    It fails for any wrong answer, for a request that hangs or is lost, and for a recovery that
    takes longer than the threshold twice: once may be the machine's fault. It is ``inconclusive``
    where a failure could not be staged, or the model's own answers differ too much to be compared.

    Args:
        samples: the failures.
        threshold: relation ``at_most``, in seconds.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    fault = threshold_fault(threshold)
    if fault or threshold.value is None:
        return make_verdict(
            GATE,
            "error" if fault else "not_applicable",
            threshold,
            unit="s",
            reason=f"not judged: {fault}" if fault else "no threshold is set",
            advice="correct the limit",
        )
    staged = [scenario for scenario in samples.scenarios if not scenario.not_staged]
    timed = {s.name: settled_recovery(s) for s in staged if s.recovery_s}
    longest = max(timed.values(), default=None)
    outcome, reason, advice = _decide(samples, timed, threshold.value)
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="s",
        reason=reason,
        advice=advice,
        observed=longest if longest is None or math.isfinite(longest) else None,
        samples=sum(len(scenario.recovery_s) for scenario in staged),
        details=_details(samples, timed),
    )


def settled_recovery(scenario: RecoveryScenario) -> float:
    """Return the recovery time that counts, in seconds: the second longest of several.

    One is not confirmed by another; of two, of which the first was over the limit, the shorter
    counts.
    """
    ordered = sorted(scenario.recovery_s, reverse=True)
    return ordered[1] if len(ordered) > 1 else ordered[0]


def _decide(
    samples: RecoverySamples, timed: dict[str, float], limit: float
) -> tuple[Outcome, str, str]:
    if samples.repeatability > NOTHING_TO_COMPARE:
        return (
            "inconclusive",
            f"the intact model's own answers differ by {100 * samples.repeatability:.3g}% of "
            f"their range in {samples.repeats} repeats, so that no answer can be called wrong",
            "seed what is drawn at random in the model",
        )
    wrong = [f"{s.name}: {s.wrong[0]}" for s in samples.scenarios if s.wrong]
    if wrong:
        return (
            "fail",
            f"a wrong answer was served; {list_text(wrong)}",
            "check the artifact's digest before it is loaded, and refuse what does not parse whole",
        )
    faults = [f"{s.name}: {fault}" for s in samples.scenarios for fault in s.faults]
    if faults:
        return "fail", "; ".join(faults), "look at the worker's last output"
    late = {name: seconds for name, seconds in timed.items() if seconds > limit}
    if late:
        words = list_text(f"{name}: {_seconds(seconds)}" for name, seconds in late.items())
        return (
            "fail",
            f"right answers came later than {limit:g} s after it; {words}",
            "make the model start faster, or allow more time",
        )
    missing = [f"{s.name} ({s.not_staged})" for s in samples.scenarios if s.not_staged]
    done = list_text(f"{name} {_seconds(seconds)}" for name, seconds in timed.items())
    answers = count_text(sum(s.answers for s in samples.scenarios), "answer")
    if missing:
        return (
            "inconclusive",
            f"not certified: could not be staged here: {list_text(missing)}; measured: {done}",
            "run it where the failure can be staged",
        )
    if not timed:
        return "inconclusive", "no failure was staged", "measure again"
    exact = "bit for bit" if not samples.repeatability else "within their repeatability"
    return "pass", f"right again after being {done}; {answers}, none wrong ({exact})", ""


def _details(samples: RecoverySamples, timed: dict[str, float]) -> dict[str, JSON]:
    return {
        "repeatability": samples.repeatability,
        "compared": samples.compared,
        "scenarios": {
            s.name: {
                "recovery_s": [_finite(seconds) for seconds in s.recovery_s],
                "counted_s": _finite(timed.get(s.name, math.inf)),
                "answers": s.answers,
                "wrong": list(s.wrong),
                "faults": list(s.faults),
                "notes": list(s.notes),
                "not_staged": s.not_staged,
            }
            for s in samples.scenarios
        },
    }


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if math.isfinite(seconds) else "never"
