"""The table of rules: from what was measured of a candidate to what to change."""

from __future__ import annotations

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge import (
    advice_bottleneck,
    advice_host,
    advice_layers,
    advice_measuring,
    advice_memory,
    advice_quality,
    advice_speed,
)
from pytest_edgeai.judge.advice_situation import Rule, Situation

RULES: tuple[Rule, ...] = (
    *advice_speed.RULES,
    *advice_bottleneck.RULES,
    *advice_host.RULES,
    *advice_quality.RULES,
    *advice_layers.RULES,
    *advice_memory.RULES,
    *advice_measuring.RULES,
)
"""Every rule, by topic."""


def advise(situation: Situation) -> tuple[Advice, ...]:
    """Return what every rule says of a candidate, the weightiest first.

    Nothing is guessed: a rule whose measurement is missing says nothing. What several rules would
    cure alike is said once, by the weightiest of them.
    """
    found = [advice for rule in RULES if (advice := rule.decide(situation)) is not None]
    found.sort(key=lambda advice: -advice.weight)
    seen: set[tuple[str, ...]] = set()
    chosen = []
    for advice in found:
        changes = tuple(line for line in advice.manifest_lines if not line.startswith("label"))
        if changes not in seen or not changes:
            chosen.append(advice)
        seen.add(changes)
    return tuple(chosen)
