"""What this machine can tell apart, how long that takes, and which thresholds ask for more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_edgeai.judge.retention import samples_to_ever_decide
from pytest_edgeai.judge.speed import RESOLUTION_RATIO
from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.records import JSON, Verdict
from pytest_edgeai.selfcheck.timed import Trial

ASKED_RATIO = 0.05
"""The resolution whose price is stated."""

FEWEST_ROUNDS = 30
"""`judge.speed` decides nothing below."""

BUDGET_CALL_NS = 5_000_000
"""The call for which a configured budget is checked."""

_WALL_BLOCK = 5


@dataclass(frozen=True)
class Resolution:
    """What the same model, measured against itself, says about the machine.

    Attributes:
        trials: measurements in fresh processes.
        ratio: smallest difference that can be told here, as a share; never below 3%.
        rounds: rounds that 5% take at the median of the measurements: those that it took or,
            where it was not told, those that are forecast; ``None`` where no practical number
            would do.
        most_rounds: likewise, of the slowest measurement.
        round_s: seconds of a round of the planted models.
        lowest: the smallest ratio that was read off two equal models.
        highest: the largest.
    """

    trials: int
    ratio: float
    rounds: int | None
    most_rounds: int | None
    round_s: float
    lowest: float
    highest: float

    def seconds(self, call_ns: float) -> float | None:
        """Return the seconds that :attr:`rounds` take for two models with calls of ``call_ns``."""
        if self.rounds is None:
            return None
        return self.rounds * 2 * (lead_in_calls(call_ns) + 1) * call_ns / 1e9


@dataclass(frozen=True)
class Configured:
    """A threshold of the user's.

    Attributes:
        model: name of the model.
        gate: name of the gate.
        limit: the threshold.
        origin: where it was set.
        measures_speed: whether the gate compares times.
    """

    model: str
    gate: str
    limit: float
    origin: str
    measures_speed: bool


def rounds_needed(verdict: Verdict) -> int | None:
    """Return the rounds that a verdict on speed took or, undecided, is forecast to take.

    ``None`` where no practical number would decide.
    """
    if verdict.outcome in ("pass", "fail"):
        channels: JSON = verdict.details["channels"]
        ends: list[int] = [
            channel["decided_at"] * (_WALL_BLOCK if name == "wall" else 1)
            for name, channel in channels.items()
            if channel["decides"]
        ]
        return max(FEWEST_ROUNDS, *ends)
    further: JSON = verdict.details.get("further_rounds")
    return verdict.samples + further if isinstance(further, int) else None


def resolution_of(trials: Sequence[Trial]) -> Resolution | None:
    """Read the resolution off measurements of the same model twice; ``None`` without any.

    Two equal models that read as 0.98x say that 2% are nothing here. Where a difference of 5% was
    not told within the time of a measurement, 5% is what can be told at best.
    """
    asked = [_asked(trial) for trial in trials]
    observed = [v.observed for group in asked for v in group if v.observed is not None]
    if not observed:
        return None
    needed = sorted(max(map(_rounds, group)) for group in asked if group)
    undecided = any(v.outcome not in ("pass", "fail") for group in asked for v in group)
    reach = max(abs(math.log(ratio)) for ratio in observed)
    return Resolution(
        trials=len(trials),
        ratio=max(RESOLUTION_RATIO, ASKED_RATIO if undecided else 0.0, math.expm1(reach)),
        rounds=_practical(needed[len(needed) // 2]),
        most_rounds=_practical(needed[-1]),
        round_s=sum(t.seconds for t in trials) / max(1, sum(t.timings.rounds for t in trials)),
        lowest=min(observed),
        highest=max(observed),
    )


def _rounds(verdict: Verdict) -> float:
    needed = rounds_needed(verdict)
    return math.inf if needed is None else needed


def _practical(rounds: float) -> int | None:
    return int(rounds) if math.isfinite(rounds) else None


def _asked(trial: Trial) -> list[Verdict]:
    """Return the verdicts at 5% from the truth."""
    return [
        verdict
        for verdict in trial.verdicts
        if verdict.gate == "speedup"
        and verdict.threshold is not None
        and math.isclose(abs(verdict.threshold - 1), ASKED_RATIO)
    ]


def warnings(
    configured: Iterable[Configured], resolution: Resolution | None, budget_s: float
) -> tuple[str, ...]:
    """Say which configured thresholds cannot be resolved here, one sentence each.

    Args:
        configured: the thresholds of the manifest's models.
        resolution: what the machine resolves; ``None`` where that was not measured.
        budget_s: the configured ``--edge-budget``.
    """
    found = []
    speed = False
    for threshold in configured:
        place = f"{threshold.gate} = {threshold.limit:g} ({threshold.origin}) of {threshold.model}"
        if threshold.measures_speed and resolution is not None:
            speed = True
            if abs(threshold.limit - 1) < resolution.ratio:
                found.append(
                    f"{place} is closer to 1 than the {resolution.ratio:.1%} that can be told "
                    "apart here: two equal models would be judged by luck or not at all"
                )
        if threshold.gate == "accuracy_retained" and threshold.limit >= 1:
            found.append(
                f"{place} asks for more than the baseline's own accuracy: on paired predictions "
                f"that takes {samples_to_ever_decide(threshold.limit):,} samples at the very least"
            )
    needed = resolution.seconds(BUDGET_CALL_NS) if resolution and speed else None
    if needed is not None and needed > budget_s:
        found.append(
            f"--edge-budget is {budget_s:g} s; 5% take about {needed:.0f} s here for a call of 5 ms"
        )
    return tuple(found)


def sample_notes(configured: Iterable[Configured]) -> tuple[str, ...]:
    """Say how many evaluation samples the thresholds of accuracy need at least."""
    limits = dict.fromkeys(
        threshold.limit
        for threshold in configured
        if threshold.gate == "accuracy_retained" and 0 < threshold.limit < 1
    )
    return tuple(
        f"accuracy_retained = {limit:g} takes {samples_to_ever_decide(limit):,} evaluation samples "
        "that the baseline gets right, with no loss at all; more with any"
        for limit in limits
    )
