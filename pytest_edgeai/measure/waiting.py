"""How long a measurement waits for other processes to finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

JUDGED_ROUNDS = 50
"""Rounds that contention is judged by; a clear case is decided after 45, before it is asked."""

SHORTEST_WAIT_S = 0.5
LARGEST_WAITING_SHARE = 0.2
"""Share of the budget that may be spent waiting: what a machine that is never quiet loses."""


@dataclass(frozen=True)
class Clock:
    """What time is read from and spent with.

    Attributes:
        now_s: seconds of a clock that never goes back.
        sleep: pauses for a number of seconds.
    """

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Patience:
    """Waits that double while they do not help, and end with their share of the budget."""

    def __init__(self, budget_s: float) -> None:
        """Wait for a fifth of ``budget_s`` at most, all waits together."""
        self._left_s = LARGEST_WAITING_SHARE * budget_s
        self._next_s = SHORTEST_WAIT_S

    def wait_s(self, *, contended: bool) -> float:
        """Return how long to wait before the next round; 0 where there is nothing to wait for.

        Args:
            contended: whether the rounds since the last question were disturbed. What the rounds
                say about the models must have no part in it.
        """
        if not contended:
            self._next_s = SHORTEST_WAIT_S
            return 0.0
        if self._left_s < SHORTEST_WAIT_S:
            return 0.0
        wait_s = min(self._next_s, self._left_s)
        self._left_s -= wait_s
        self._next_s *= 2
        return wait_s
