"""What the parts of the gate ``endurance`` share: their form, and the error rate of a look."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_edgeai.judge.turns import FIRST_LOOK_SHARE, error_rate_of_look
from pytest_edgeai.production_records import EnduranceSamples
from pytest_edgeai.records import JSON, Outcome

ERROR_RATE = 0.02
"""Of each two-sided interval, all looks together: 1% for a failure of a model at the limit."""


@dataclass(frozen=True)
class Part:
    """One question of the gate.

    Attributes:
        name: of the part.
        outcome: of the part; ``None`` where it could not be measured here.
        text: why, in one clause.
        advice: what to do about it.
        figures: for the details.
    """

    name: str
    outcome: Outcome | None
    text: str
    advice: str = ""
    figures: dict[str, JSON] = field(default_factory=dict)


def look_rate(samples: EnduranceSamples) -> float:
    """Return the error rate of this look: the planned one, or that after twice the turns."""
    later = samples.turns.turns > samples.planned_turns
    return ERROR_RATE * FIRST_LOOK_SHARE * ((1 - FIRST_LOOK_SHARE) if later else 1.0)


def handed_rate(samples: EnduranceSamples) -> float:
    """Return the rate to give to a judge so that it spends :func:`look_rate` at this look.

    The judges of stability share a rate out over looks after 24, 48, 96 ... turns; here the first
    look comes after all planned turns.
    """
    return look_rate(samples) / error_rate_of_look(samples.turns.turns, 1.0)
