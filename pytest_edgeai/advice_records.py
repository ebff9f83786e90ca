"""Advice: a symptom, its measured cause, the remedy, and the manifest lines that apply it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_edgeai.records import JSON, Recipe


@dataclass(frozen=True)
class Fix:
    """A remedy that can be applied without asking anyone.

    Attributes:
        recipe: the recipe that takes the candidate's place; ``None`` where it stays.
        settings: settings to change, by name, as they are written under ``[settings]``.
    """

    recipe: Recipe | None = None
    settings: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """One finding of one rule about one candidate.

    Attributes:
        rule: name of the rule (``int8-without-vnni``).
        symptom: what the user sees, in one sentence.
        cause: the measured cause, with its figures, in one sentence.
        remedy: what to do, in one sentence.
        manifest_lines: the lines of ``edgeai.toml`` that apply it; empty where none can.
        evidence: the figures that triggered the rule.
        fix: what ``--edge-fix`` may try; ``None`` where a person has to act.
        weight: how much of the gap it may explain, 0 to 1; the highest is the top advice.
        gates: names of the gates that it may turn.
    """

    rule: str
    symptom: str
    cause: str
    remedy: str
    manifest_lines: tuple[str, ...] = ()
    evidence: Mapping[str, JSON] = field(default_factory=dict)
    fix: Fix | None = None
    weight: float = 0.5
    gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class FixAttempt:
    """One remedy that was applied, and what it changed.

    Attributes:
        rule: the rule whose remedy it is.
        applied: what was changed, as manifest lines.
        candidate: id of the candidate with it.
        before: gate name to ``(observed, low, high)`` before.
        after: likewise with it; empty where it failed.
        outcome_after: gate name to outcome with it.
        seconds: how long making and judging it took.
        kept: whether later remedies build on it.
        problem: why it could not be applied; empty where it was.
        note: what a reader of its figures should know.
    """

    rule: str
    applied: tuple[str, ...]
    candidate: str
    before: Mapping[str, tuple[float | None, float | None, float | None]]
    after: Mapping[str, tuple[float | None, float | None, float | None]]
    outcome_after: Mapping[str, str]
    seconds: float
    kept: bool
    problem: str = ""
    note: str = ""
