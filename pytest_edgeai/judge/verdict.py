"""How a verdict is put together, worded and weighed: figures with units a person can read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pytest_edgeai.records import JSON, Outcome, Relation, Threshold, Verdict

Interval = tuple[float | None, float | None]

_SEVERITY: tuple[Outcome, ...] = (
    "fail",
    "error",
    "inconclusive",
    "proxy",
    "pass",
    "not_applicable",
)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome that weighs most: fail, error, inconclusive, proxy, pass, not_applicable.

    Raises:
        ValueError: if there are no outcomes.
    """
    return min(outcomes, key=_SEVERITY.index)


def worst_by_gate(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Return gate name to its worst verdict, in the order in which the gates first appear.

    A rerun never improves a verdict: a gate that passes at the third attempt did not hold.
    """
    kept: dict[str, Verdict] = {}
    for verdict in verdicts:
        known = kept.get(verdict.gate)
        if known is None or worst((known.outcome, verdict.outcome)) != known.outcome:
            kept[verdict.gate] = verdict
    return kept


def chance_of_a_wrong_verdict(verdicts: Iterable[Verdict]) -> tuple[float, int]:
    """Return a bound on the chance that at least one of several verdicts is wrong, and of how many.

    Counted are the verdicts that passed or failed by a test with a stated error rate
    (``error_rate`` of their details). The bound is Boole's inequality, the sum of the rates, so it
    holds however the verdicts depend on each other; each rate is that of a candidate exactly at its
    threshold, the worst case.
    """
    rates = [
        float(verdict.details["error_rate"])
        for verdict in verdicts
        if verdict.outcome in ("pass", "fail") and "error_rate" in verdict.details
    ]
    return min(1.0, math.fsum(rates)), len(rates)


def make_verdict(
    gate: str,
    outcome: Outcome,
    threshold: Threshold,
    *,
    unit: str,
    reason: str,
    advice: str = "",
    observed: float | None = None,
    interval: Interval | None = None,
    confidence: float | None = None,
    samples: int = 0,
    details: Mapping[str, JSON] | None = None,
) -> Verdict:
    """Build a verdict; the threshold gives its limit, relation and origin.

    Advice is dropped after a pass.
    """
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=observed,
        interval=interval,
        confidence=confidence,
        threshold=threshold.value,
        relation=threshold.relation,
        unit=unit,
        samples=samples,
        reason=reason,
        advice="" if outcome == "pass" else advice,
        threshold_origin=threshold.origin,
        details=dict(details or {}),
    )


def require_relation(gate: str, threshold: Threshold, relation: Relation) -> None:
    """Check that a gate got a threshold of its own kind.

    Raises:
        ValueError: for another relation, a mistake of the caller and not of the user.
    """
    if threshold.relation != relation:
        raise ValueError(
            f'gate {gate} needs a threshold with relation "{relation}", got "{threshold.relation}"'
        )


def threshold_fault(threshold: Threshold, *, positive: bool = True) -> str:
    """Return what is wrong with a threshold, or an empty string.

    Args:
        threshold: its value may be ``None``; otherwise it must be finite.
        positive: whether it must be more than 0 as well.
    """
    value = threshold.value
    if value is None or (math.isfinite(value) and (value > 0 or not positive)):
        return ""
    kind = "positive, finite" if positive else "finite"
    return f"the threshold {value:g} ({threshold.origin}) is not a {kind} number"


def ratio_text(value: float | None) -> str:
    """Format a ratio: ``2.75x``; ``unbounded`` for an open side."""
    if value is None:
        return "unbounded"
    return f"{value:,.0f}x" if value >= 100 else f"{value:.2f}x"


def percent_text(value: float | None) -> str:
    """Format a share: ``98.7%``; ``unbounded`` for an open side."""
    return "unbounded" if value is None else f"{100 * value:.1f}%"


def duration_text(value_ns: float) -> str:
    """Format a duration with three digits: ``1.25 ms``."""
    for limit, divisor, unit in ((1e3, 1.0, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")):
        if value_ns < limit:
            return f"{value_ns / divisor:.3g} {unit}"
    return f"{value_ns / 1e9:.3g} s"


def bytes_text(value_bytes: float) -> str:
    """Format a size in binary units: ``41.5 MiB``."""
    size = abs(value_bytes)
    for limit, divisor, unit in ((2.0**10, 1.0, "B"), (2.0**20, 2.0**10, "KiB")):
        if size < limit:
            return f"{value_bytes / divisor:.4g} {unit}"
    if size < 2.0**30:
        return f"{value_bytes / 2.0**20:.1f} MiB"
    return f"{value_bytes / 2.0**30:.2f} GiB"


def count_text(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 sample``, ``1,200 samples``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def list_text(names: Iterable[str], limit: int = 8) -> str:
    """Join names with commas, cut after ``limit`` of them."""
    every = list(names)
    shown = ", ".join(every[:limit])
    return f"{shown} and {len(every) - limit} more" if len(every) > limit else shown
