"""What a remedy changed: which gates it turned, which came closer, and which it broke."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.advice_records import FixAttempt
from pytest_edgeai.judge.verdict import list_text
from pytest_edgeai.records import Outcome, Verdict

_SETTLED = ("pass", "not_applicable")
NEARER_SHARE = 0.1
"""Share of the way to the threshold that a figure without an interval must have gone."""

BIAS = (
    "remedies were chosen by the data and the machine that judge them, so confirm them by a run of "
    "their own"
)
"""Choosing the best of several by the data that judge it makes its figures too good."""

Figure = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Effect:
    """What a remedy did to the gates that were judged again.

    Attributes:
        turned: gates that pass now and did not before.
        improved: gates that still do not pass, and are closer to it beyond chance.
        broken: gates that passed and do not any more, and those that got worse beyond chance.
    """

    turned: tuple[str, ...] = ()
    improved: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def settled_outcome(verdict: Verdict) -> Outcome:
    """Return the outcome, on a proxy host the one that it would have been."""
    if verdict.outcome == "proxy":
        told: Outcome = verdict.details.get("outcome_on_proxy", "proxy")
        return told
    return verdict.outcome


def figure_of(verdict: Verdict | None) -> Figure:
    """Return what was observed with its interval."""
    if verdict is None:
        return None, None, None
    low, high = verdict.interval if verdict.interval is not None else (None, None)
    return verdict.observed, low, high


def effect_of(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> Effect:
    """Compare the verdicts of a candidate with those of the same candidate with a remedy.

    Args:
        before: gate name to verdict; gates without one are left out.
        after: likewise, for the gates that were judged again.
    """
    turned, improved, broken = [], [], []
    for gate, verdict in after.items():
        old = before.get(gate)
        if old is None:
            continue
        passed, passes = settled_outcome(old) in _SETTLED, settled_outcome(verdict) in _SETTLED
        if passes and not passed:
            turned.append(gate)
        elif passed and not passes:
            broken.append(gate)
        elif not passes and _is_better(old, verdict):
            improved.append(gate)
        elif not passes and _is_better(verdict, old):
            broken.append(gate)
    return Effect(tuple(turned), tuple(improved), tuple(broken))


def _is_better(old: Verdict, verdict: Verdict) -> bool:
    """Return whether a gate that does not pass came closer to it, beyond chance if that is known.

    A gate that could not be measured at all is worse than one that failed.
    """
    if old.outcome == "error" or verdict.outcome == "error":
        return old.outcome == "error" and verdict.outcome != "error"
    sign = -1.0 if verdict.relation == "at_most" else 1.0
    (was, was_low, was_high), (now, low, high) = figure_of(old), figure_of(verdict)
    if was is None or now is None:
        return False
    best_was, worst_now = (was_high, low) if sign > 0 else (was_low, high)
    if best_was is not None and worst_now is not None:
        return sign * worst_now > sign * best_was
    if verdict.threshold is None:
        return False
    gap = sign * (verdict.threshold - was)
    return gap > 0 and sign * (now - was) > NEARER_SHARE * gap


def note_of(effect: Effect) -> str:
    """Return what a remedy did, in one sentence; empty where it did nothing."""
    words = []
    if effect.turned:
        words.append(f"passes now: {', '.join(effect.turned)}")
    if effect.improved:
        words.append(f"better, but not enough: {', '.join(effect.improved)}")
    if effect.broken:
        words.append(f"no longer passes: {', '.join(effect.broken)}")
    elif words:
        words.append(BIAS)
    return "; ".join(words)


def summary(
    attempts: Sequence[FixAttempt],
    open_gates: Collection[str],
    verdicts: Mapping[str, Verdict],
    anew: Collection[str],
) -> str:
    """Return what came of fixing one candidate, in one sentence.

    Args:
        attempts: every remedy that was tried, at least one.
        open_gates: gates that still fail.
        verdicts: gate name to the verdict that holds with the kept remedies.
        anew: gates that were judged with the last of them.
    """
    count = len(attempts)
    tried = f"of {count} {'remedy' if count == 1 else 'remedies'} tried by --edge-fix"
    kept = [attempt.rule for attempt in attempts if attempt.kept]
    if not kept:
        return f"{tried}, none helped"
    left = {*open_gates, *(g for g in anew if settled_outcome(verdicts[g]) not in _SETTLED)}
    missing = [gate for gate in verdicts if gate not in anew]
    if left:
        end = f"it still does not pass {list_text(sorted(left))}"
    elif missing:
        end = f"it passes what was judged again; not judged in time: {list_text(missing)}"
    else:
        end = "with the lines of the last of them the candidate passes what this run judged"
    return f"{tried}, {len(kept)} helped ({list_text(kept)}); {end}"
