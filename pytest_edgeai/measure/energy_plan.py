"""How long blocks of energy have to be, which the counters themselves tell while nothing runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure.energy_counters import EnergyCounter
from pytest_edgeai.measure.lead_in import lead_in_calls

RESOLUTION = 0.01
"""Share of a block within which its energy is known."""

PROBE_S = 2.5
PROBE_SHARE = 0.05
"""Share of a budget within which a slow counter has to move."""

_PROBED_CHANGES = 9
_POLL_S = 0.0005


@dataclass(frozen=True)
class Clock:
    """Time, as a measurement sees it."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Meter:
    """Counters that are read together; see :class:`~.energy_counters.EnergyCounter`."""

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        """Read ``counters``, of which there is at least one."""
        self.counters = tuple(counters)

    def readings(self) -> tuple[float, ...]:
        """Return the joules of each counter since it was opened."""
        return tuple(counter.joules() for counter in self.counters)


@dataclass(frozen=True)
class Probe:
    """How fast counters move while nothing runs.

    Attributes:
        update_s: time between two changes of the slowest.
        slowest: its index.
        watts: power of all of them.
    """

    update_s: float
    slowest: int
    watts: float


def probe(meter: Meter, *, limit_s: float, clock: Clock) -> Probe:
    """Watch counters until each has changed some times.

    Raises:
        NotCertified: one of them stood still.
    """
    started = clock.now_s()
    first = last = meter.readings()
    changes: list[list[float]] = [[] for _ in first]
    while (now_s := clock.now_s()) - started < limit_s:
        clock.sleep(_POLL_S)
        current = meter.readings()
        for index, (before, after) in enumerate(zip(last, current, strict=True)):
            if after != before:
                changes[index].append(now_s)
        last = current
        if all(len(times) > _PROBED_CHANGES for times in changes):
            break
    still = [
        counter.name
        for counter, times in zip(meter.counters, changes, strict=True)
        if len(times) < 3
    ]
    if still:
        raise NotCertified(
            f"the energy counter {still[0]} moved less than three times in {limit_s:.3g} s",
            advice="raise --edge-budget: a twentieth of it is spent on watching a slow counter",
        )
    periods = [float(np.median(np.diff(times))) for times in changes]
    slowest = int(np.argmax(periods))
    elapsed_s = max(clock.now_s() - started, _POLL_S)
    return Probe(periods[slowest], slowest, (sum(last) - sum(first)) / elapsed_s)


@dataclass(frozen=True)
class BlockPlan:
    """How long blocks are and what they hold.

    Attributes:
        block_s: length of a block.
        calls: for each model, the calls of a block, or of a part of it where blocks end with a
            change of the counter.
        lead_in: for each model, the calls before a block.
        update_s: see :class:`Probe`.
        waits_for: index of the counter with whose changes blocks begin and end; ``None`` where it
            changes a hundred times in a block.
    """

    block_s: float
    calls: tuple[int, ...]
    lead_in: tuple[int, ...]
    update_s: float
    waits_for: int | None

    @property
    def pair_s(self) -> float:
        """How long a pair of blocks takes."""
        waits_s = 0.0 if self.waits_for is None else 2 * self.update_s
        return 2 * (self.block_s + waits_s)


def plan_blocks(
    call_ns: Sequence[float], counters: Sequence[EnergyCounter], probed: Probe
) -> BlockPlan:
    """Return blocks long enough that what a counter does not show is below 1% of them.

    Where it changes too seldom for that, blocks begin and end with a change, and it is the calls
    between two readings that have to be short.

    Args:
        call_ns: duration of a call of each model.
        counters: what is read.
        probed: how fast they move.
    """
    calls_s = [max(duration, 1.0) / 1e9 for duration in call_ns]
    quantum = sum(counter.quantum_joules for counter in counters)
    steps_s = quantum / max(probed.watts, 1e-9) / RESOLUTION
    block_s = max(steps_s, *(counter.least_block_s for counter in counters))
    waits_for = None
    parts_s = block_s
    if probed.update_s > RESOLUTION * block_s:
        waits_for = probed.slowest
        block_s = max(block_s, 2 * probed.update_s, max(calls_s) / RESOLUTION)
        parts_s = RESOLUTION * block_s
    rounded = math.ceil if waits_for is None else math.floor
    return BlockPlan(
        block_s=block_s,
        calls=tuple(max(1, rounded(parts_s / call_s)) for call_s in calls_s),
        lead_in=tuple(max(1, lead_in_calls(duration)) for duration in call_ns),
        update_s=probed.update_s,
        waits_for=waits_for,
    )
