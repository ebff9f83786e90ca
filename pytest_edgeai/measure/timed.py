"""A model that can be timed, and what its calls took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pytest_edgeai.records import Int64Array


@dataclass(frozen=True, eq=False)
class CallTimes:
    """Times of consecutive calls of one model; every array is int64 of shape ``(calls,)``.

    Attributes:
        wall_ns: wall time of each call.
        cpu_ns: CPU time of the process during each call.
        preemptions: involuntary context switches during each call.
    """

    wall_ns: Int64Array
    cpu_ns: Int64Array
    preemptions: Int64Array


@dataclass(frozen=True, eq=False)
class Turns:
    """What a model did in a series.

    Attributes:
        times: of each of its turns, in order.
        placed: whether it ran on the core that it was told of.
    """

    times: list[CallTimes]
    placed: bool


class Timed(Protocol):
    """A loaded model with one sample bound to it."""

    cpu_time_is_valid: bool

    def time_calls(self, calls: int) -> CallTimes:
        """Run the bound sample ``calls`` times and return the times of each call."""
        ...

    def run_on(self, core: int | None) -> bool:
        """See :class:`~.cores.Placed`."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A model whose process can hand over to another one's by itself; see :mod:`~.relay`."""

    def listen(self, path: str) -> None:
        """Open the FIFO ``path`` to be told of its turns."""
        ...

    def join(self, path: str) -> None:
        """Open the FIFO ``path`` that the other model listens to."""
        ...

    def order_turns(
        self, calls: Sequence[int], number: int, after: int | None
    ) -> Callable[[], Turns]:
        """Tell it of its turns of a series, which it takes after those that it was told of before.

        Args:
            calls: calls of each turn of the series, in order; 0 where it is the other one's.
            number: of the series, so that a hand-over that was left over from another is told
                apart.
            after: the series that the other one is to end before this one begins, where that is
                still to come.

        Returns:
            What waits for them, to be called once.
        """
        ...
