"""Take rounds: by the parent, turn by turn, or by the models' processes, block by block."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from pytest_edgeai.measure.cores import ROUNDS_ON_A_CORE, place
from pytest_edgeai.measure.relay import relay
from pytest_edgeai.measure.relayed import RelayedRounds
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import Timed


class TakesRounds(Protocol):
    """Adds rounds to a record."""

    def take(self, end: int, attempt: int) -> None:
        """Add a round, or several; ``end`` is the number that the record is to have at most."""
        ...

    def finish(self) -> bool:
        """Add what was ordered ahead; return whether there was anything."""
        ...


def run_round(
    models: Sequence[Timed],
    lead_in: Sequence[int],
    rounds: Rounds,
    generator: random.Random,
    attempt: int,
    kept: Sequence[int] | None = None,
) -> None:
    """Give every model its turn, in random order, never two at a time and all on one core.

    Rounds that are judged change the core with every block of them, turns of many calls each time.

    Args:
        models: the models, warm.
        lead_in: for each, the calls that begin its turn.
        rounds: grows by one round.
        generator: source of the random order.
        attempt: the attempt that the round belongs to.
        kept: for each model, the calls of its turn that follow those that led in; one each by
            default, which is what a verdict takes.

    Raises:
        EdgeAIError: a process ended or hung, or a call of it failed.
    """
    keep = not kept and len(rounds) % ROUNDS_ON_A_CORE > 0
    core = place(models, rounds.core, rounds.preempted, generator, keep=keep)
    order = list(range(len(models)))
    generator.shuffle(order)
    turns = [
        models[index].time_calls(lead_in[index] + (kept[index] if kept else 1)) for index in order
    ]
    # Whether a model could be put there may show with its calls.
    placed = core >= 0 and all(model.run_on(core) for model in models)
    rounds.add(order, turns, lead_in, core if placed else -1, attempt)


class _RoundByRound:
    """Adds round by round, each turn ordered when the one before it has ended."""

    def __init__(
        self,
        models: Sequence[Timed],
        lead_in: Sequence[int],
        rounds: Rounds,
        generator: random.Random,
    ) -> None:
        self._models = models
        self._lead_in = lead_in
        self._rounds = rounds
        self._generator = generator

    def take(self, end: int, attempt: int) -> None:
        """Add one round."""
        run_round(self._models, self._lead_in, self._rounds, self._generator, attempt)

    def finish(self) -> bool:
        """Add nothing, since nothing is ordered ahead."""
        return False


@contextmanager
def taking_rounds(
    models: Sequence[Timed],
    lead_in: Sequence[int],
    call_ns: Sequence[float],
    rounds: Rounds,
    generator: random.Random,
) -> Iterator[TakesRounds]:
    """Yield what takes rounds of two models, without asking anybody in between where they can.

    Args:
        models: the models, warm.
        lead_in: for each, the calls that begin each of its turns. Models without any are so slow
            that nothing is gained by their handing over themselves.
        call_ns: for each, what a call takes, about.
        rounds: grows.
        generator: source of the random order.

    Raises:
        EdgeAIError: a worker failed.
    """
    with relay(models if min(lead_in) else ()) as handing_over:
        if handing_over is None:
            yield _RoundByRound(models, lead_in, rounds, generator)
        else:
            yield RelayedRounds(models, lead_in, call_ns, rounds, generator, handing_over)
