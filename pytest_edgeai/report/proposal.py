"""The manifest lines that a report proposes for a candidate that did not pass."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_edgeai.records import PROMOTABLE_OUTCOMES
from pytest_edgeai.report.content import CandidateReport


@dataclass(frozen=True)
class Proposal:
    """Lines of ``edgeai.toml`` with what is known of them.

    Attributes:
        sentence: what they do; ends with a colon.
        lines: the lines.
        note: what a reader should know before using them; empty for nothing.
    """

    sentence: str
    lines: tuple[str, ...]
    note: str = ""


def proposal(candidate: CandidateReport) -> Proposal | None:
    """Return the lines of the last remedy that ``--edge-fix`` kept, else those of the top advice.

    ``None`` where the candidate needs none, or nobody knows any.
    """
    if not candidate.promotion_blocked_by:
        return None
    kept = [attempt for attempt in candidate.fixes if attempt.kept]
    if kept:
        last = kept[-1]
        missed = [
            gate
            for gate, outcome in last.outcome_after.items()
            if outcome not in (*PROMOTABLE_OUTCOMES, "proxy")
        ]
        judged = {verdict.gate for verdict in candidate.verdicts}
        sentence = "with these lines of edgeai.toml the candidate passes what this run judged:"
        if missed:
            sentence = (
                f"with these lines of edgeai.toml it comes closer; still not {', '.join(missed)}:"
            )
        elif judged - set(last.outcome_after):
            sentence = "with these lines of edgeai.toml it passes what was judged again:"
        return Proposal(sentence, last.applied, last.note)
    top = next(iter(candidate.advice), None)
    if top is None or not top.manifest_lines:
        return None
    return Proposal("the lines of edgeai.toml that do it:", top.manifest_lines)
