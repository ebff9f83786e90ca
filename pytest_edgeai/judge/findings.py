"""The gates that look through something for what must not ship: one finding too many fails."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_edgeai.judge.verdict import (
    count_text,
    list_text,
    make_verdict,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.production_records import Finding, Inspection
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict, to_json

MOST_SHOWN = 12
"""Findings that a verdict's sentence lists; its details hold all of them."""


def judge_findings(
    gate: str, seen: Inspection, threshold: Threshold, *, advice: str, unread_advice: str = ""
) -> Verdict:
    """Decide whether something may ship by what was found in it.

    Fails with more findings than the threshold allows, whatever else could not be looked through.
    Otherwise anything that nothing could look through leaves it undecided, because what was not
    seen is not known to be harmless. No statistics: a finding is there or not.

    Args:
        gate: name of the gate.
        seen: what was looked through and found.
        threshold: relation ``at_most``, unit findings.
        advice: what to do about findings.
        unread_advice: what to do about that which could not be looked through.

    Returns:
        A verdict; ``error`` for a threshold that is no finite number of 0 and above, and where
        nothing was looked through.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(gate, threshold, "at_most")
    allowed = threshold.value or 0.0
    fault = threshold_fault(threshold, positive=False)
    if not fault and allowed < 0:
        fault = f"the threshold {allowed:g} ({threshold.origin}) is negative"
    if not fault and not seen.subjects and not seen.findings:
        fault = f"there was no {seen.noun} to look through"
    count = len(seen.findings)
    details: dict[str, JSON] = {
        "findings": to_json(seen.findings),
        "unread": list(seen.unread),
        "tools": dict(seen.tools),
        "notes": list(seen.notes),
    }
    tools = list_text(f"{name} {version}".strip() for name, version in seen.tools.items())
    looked = f"{count_text(seen.subjects, seen.noun)} looked through"
    looked += f" by {tools}" if tools else ""
    outcome: Outcome = "pass"
    if fault:
        outcome, reason, advice = "error", f"not judged: {fault}", "check the gate's threshold"
    elif count > allowed:
        outcome = "fail"
        reason = f"{count_text(count, 'finding')}: {_listed(seen.findings)}"
        if seen.unread:
            reason += f"; not looked through: {list_text(seen.unread, MOST_SHOWN)}"
    elif seen.unread:
        outcome, advice = "inconclusive", unread_advice
        reason = f"not certified: {list_text(seen.unread, MOST_SHOWN)}"
    else:
        found = f"{count_text(count, 'finding')}, {allowed:g} allowed" if count else "no finding"
        reason = f"{found}; {looked}"
    return make_verdict(
        gate,
        outcome,
        threshold,
        unit="findings",
        reason=reason,
        advice=advice,
        observed=None if fault else float(count),
        samples=seen.subjects,
        details=details,
    )


def _listed(findings: Iterable[Finding]) -> str:
    """Return findings as one sentence each, those of this package first, cut after some."""
    ordered = sorted(findings, key=lambda finding: bool(finding.found_by))
    shown = [
        f"{finding.where}: {finding.what}" + (f" ({finding.found_by})" if finding.found_by else "")
        for finding in ordered[:MOST_SHOWN]
    ]
    rest = len(ordered) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")
