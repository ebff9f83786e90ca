"""Which sections a model card needs before its model ships, and whether they say something."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pytest_edgeai.production_records import Finding

SECTIONS: Mapping[str, str] = {
    "intended_use": "what it is for, and what it is not for",
    "limitations": "where it is known to fail",
    "training_data": "what it was trained on",
    "evaluation_data": "what it was judged with, and why that fits its use",
    "ethical_considerations": "whom it can harm, and what was done about it",
    "contact": "whom to ask and to tell about faults",
}
"""The sections of "Model Cards for Model Reporting" (Mitchell et al., 2019) and of the card that
the Hugging Face Hub asks for, less what the gates measure (metrics, quantitative analyses)."""
_PLACEHOLDERS = frozenset(
    {"", "-", "?", "fixme", "more information needed", "n/a", "na", "tba", "tbd", "todo", "xxx"}
)
"""What stands for a section that nobody wrote; the third is that of the Hub's own template."""


def card_findings(card: Mapping[str, str], where: str) -> tuple[Finding, ...]:
    """Return a finding for every section that is missing or says nothing.

    Args:
        card: section to text.
        where: the manifest's table, for the reader.
    """
    findings: list[Finding] = []
    for section, meaning in SECTIONS.items():
        text = card.get(section)
        if text is None:
            close = difflib.get_close_matches(section, [k for k in card if k not in SECTIONS], n=1)
            hint = f'; did you mean it by "{close[0]}"?' if close else ""
            what = f'"{section}" is missing: {meaning}{hint}'
        elif text.strip(" \t\n[].…").lower() in _PLACEHOLDERS:
            what = f'"{section}" is "{text.strip()}": say {meaning}'
        else:
            continue
        findings.append(Finding("card", where, what))
    return tuple(findings)
