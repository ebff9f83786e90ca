"""What a gate takes to be decided: records alone, for whoever shows them without judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SampleNeed:
    """How many evaluation samples a gate takes.

    Attributes:
        gate: its name.
        unit: what is counted, in the plural (``evaluation samples``, ``blocks of text``).
        least: fewest with which a pass is possible at all; ``None`` where no number will do.
        asked: the number to plan for; ``None`` where no practical number will do.
        expected: true value of what is judged (``0.99``) to the samples with which it passes with a
            probability of 0.9; ``None`` where no practical number will do.
        note: what the numbers rest on; empty where there is nothing to say.
        is_required: whether the gate stays undecided with less than ``least``.
    """

    gate: str
    unit: str
    least: int | None
    asked: int | None
    expected: Mapping[str, int | None] = field(default_factory=dict)
    note: str = ""
    is_required: bool = True


@dataclass(frozen=True)
class RoundNeed:
    """How much timing a gate takes.

    Attributes:
        gate: its name.
        least: fewest with which it decides.
        asked: the number to plan for; ``None`` where no practical number will do.
        ratio: baseline time / candidate time of a candidate exactly at the threshold; 1 where the
            gate's threshold does not tell.
        note: what the numbers rest on.
        unit: what is counted: ``rounds``, one judged call of each model; ``turns``, many of them;
            or ``calls`` of the candidate, in turns.
        rounds_per_start: rounds of one pair of processes; 0 where one pair takes all.
    """

    gate: str
    least: int
    asked: int | None
    ratio: float
    note: str
    unit: str = "rounds"
    rounds_per_start: int = 0
