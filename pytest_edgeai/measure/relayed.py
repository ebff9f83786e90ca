"""Rounds of two models that hand over by themselves, ordered block by block."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_edgeai.measure.cores import ROUNDS_ON_A_CORE, place
from pytest_edgeai.measure.relay import Relay
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import Timed

AHEAD_NS = 100_000_000
"""A block that takes less is ordered before the one before it has ended. An order, its answer and
the move to another core take 2 to 4 ms, in which nothing is measured: 7% of a block of calls of 0.3
ms, and 2% of this. What is ordered ahead is run and recorded even if nobody needs it any more."""


@dataclass(frozen=True)
class _Block:
    orders: Sequence[Sequence[int]]
    core: int
    attempt: int


class RelayedRounds:
    """Adds rounds to a record, as :func:`~.taking.run_round` does one by one."""

    def __init__(
        self,
        models: Sequence[Timed],
        lead_in: Sequence[int],
        call_ns: Sequence[float],
        rounds: Rounds,
        generator: random.Random,
        relay: Relay,
    ) -> None:
        """Prepare for rounds of two models.

        Args:
            models: the models, warm.
            lead_in: for each, the calls that begin each of its turns.
            call_ns: for each, what a call takes, about.
            rounds: grows, a block of up to :data:`~.cores.ROUNDS_ON_A_CORE` rounds at a time.
            generator: source of the random order.
            relay: between the models.
        """
        self._models = models
        self._lead_in = lead_in
        self._rounds = rounds
        self._generator = generator
        self._relay = relay
        self._blocks: deque[_Block] = deque()
        round_ns = sum(each * (calls + 1) for each, calls in zip(call_ns, lead_in, strict=True))
        self._ahead = ROUNDS_ON_A_CORE * round_ns < AHEAD_NS

    def take(self, end: int, attempt: int) -> None:
        """Add the next block of rounds.

        Args:
            end: number of rounds that the record is to have at most.
            attempt: the attempt that they belong to.

        Raises:
            EdgeAIError: a process ended or hung, or a call of it failed.
        """
        if not self._blocks:
            self._order(end, attempt)
        if self._ahead and self._ordered() < end:
            self._order(end, attempt)
        self._add()

    def finish(self) -> bool:
        """Add what was ordered ahead; return whether there was anything.

        Raises:
            EdgeAIError: a process ended or hung, or a call of it failed.
        """
        unfinished = bool(self._blocks)
        while self._blocks:
            self._add()
        return unfinished

    def _ordered(self) -> int:
        return len(self._rounds) + sum(len(block.orders) for block in self._blocks)

    def _order(self, end: int, attempt: int) -> None:
        ordered = self._ordered()
        on_core = ordered % ROUNDS_ON_A_CORE
        # No block is ordered after one that leaves rounds of its core to others.
        core = place(
            self._models,
            self._rounds.core,
            self._rounds.preempted,
            self._generator,
            keep=on_core > 0,
        )
        orders = []
        for _ in range(min(end - ordered, ROUNDS_ON_A_CORE - on_core)):
            order = list(range(len(self._models)))
            self._generator.shuffle(order)
            orders.append(order)
        self._relay.order([(each, self._lead_in[each] + 1) for order in orders for each in order])
        self._blocks.append(_Block(orders, core, attempt))

    def _add(self) -> None:
        block = self._blocks.popleft()
        turns, placed = self._relay.taken()
        times = iter(turns)
        core = block.core if placed else -1
        for order in block.orders:
            self._rounds.add(
                order, [next(times) for _ in order], self._lead_in, core, block.attempt
            )
