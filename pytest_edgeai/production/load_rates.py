"""The rate that one side sustains, closed in on from above and below."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pytest_edgeai.judge.load_queue import is_disturbed, keeps_bounds, throughput
from pytest_edgeai.load_records import LoadBounds, LoadRun
from pytest_edgeai.measure.load import Driven

RESOLUTION = 1.15
"""Ratio of the lowest rate that failed and the highest that was sustained at which a search ends"""

MOST_DISTURBED = 2
"""Runs that are taken again at the same rate because other processes held the machine."""

QUERY_NS = 40e3
"""What LoadGen and its callback take per query beside the call, about; only the first rate that is
tried of a model of microseconds depends on it."""

ANSWERED_SHARE = 0.85
"""Share of what an overloaded run answered per second that is tried next."""

MOST_PER_SECOND = 10_000.0
"""Highest rate that a search tries: beyond, LoadGen's way through Python is what is measured."""


@dataclass
class Search:
    """What is known of the rate that one side sustains.

    Attributes:
        driven: the model.
        runs: every run of it.
        mean_ns: mean time of a call alone.
        predicted: rate that its calls alone would let it sustain.
        low: highest rate that it sustained; 0 for none.
        high: lowest rate above that which it did not; infinite for none.
        disturbed: runs that say nothing, because other processes held the machine.
        ceiling: most of what the last run answered per second, where that was less than was asked.
    """

    driven: Driven
    runs: list[LoadRun] = field(default_factory=list)
    mean_ns: float = 0.0
    predicted: float = 0.0
    low: float = 0.0
    high: float = math.inf
    disturbed: int = 0
    ceiling: float = math.inf

    @property
    def is_done(self) -> bool:
        """Whether the rate is known to the resolution, or higher than any that is tried."""
        return self.low > 0 and (
            self.high <= RESOLUTION * self.low * 1.001 or self.low >= MOST_PER_SECOND
        )

    def next_rate(self) -> float:
        """Return the rate to try next."""
        return min(self._next_rate(), self.ceiling, max(MOST_PER_SECOND, self.low))

    def _next_rate(self) -> float:
        if self.low and math.isfinite(self.high):
            return math.sqrt(self.low * self.high)
        if self.low:
            return self.low * RESOLUTION
        if math.isfinite(self.high):
            return float(self.high / RESOLUTION**1.5)
        return 0.92 * self.predicted * self.mean_ns / (self.mean_ns + QUERY_NS)

    def note(self, run: LoadRun, bounds: LoadBounds) -> None:
        """Take a run of the Server scenario into account."""
        rate, answered = run.target_per_second, throughput(run)
        self.ceiling = ANSWERED_SHARE * answered if answered < ANSWERED_SHARE * rate else math.inf
        if keeps_bounds(run, bounds):
            self.low = max(self.low, rate)
        elif is_disturbed(run, bounds) and self.disturbed < MOST_DISTURBED:
            self.disturbed += 1
        elif rate > self.low:
            self.high = min(self.high, rate)
        if self.high <= self.low:
            self.high = math.inf
