"""How a speed is decided: settings that follow from what is measured, fixed before it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_edgeai.judge.timings import has_cpu_times
from pytest_edgeai.records import JSON, PairedTimings

Mode: TypeAlias = Literal["agree", "cpu-led", "wall-only"]
Deciding: TypeAlias = Literal["agree", "cpu", "cpu-unless-contradicted", "wall", "starts"]

LONG_CALL_NS = 15_000_000
"""From here on a call outlasts a time slice: on a busy machine nearly every one is preempted, the
minima of wall time with them, and wall time stays undecided (in 74% to 92% of trials)."""

CHOOSING_ROUNDS = 5
"""Rounds that the duration of a call is read from; no procedure decides within them."""

ROUNDS_PER_START = 10
"""Rounds of one pair of processes whose median is one sign: more would measure that pair better,
and a budget holds the more pairs the fewer rounds each takes."""

FEWEST_SIGNS = 9
"""Signs that decide at a level of 0.01 where all of them agree: 2^10 / 10 > 100."""


@dataclass(frozen=True)
class Procedure:
    """How one pair of models is judged.

    Attributes:
        name: ``short calls``, ``long calls``, ``wall time`` or ``several threads``.
        deciding: ``agree``: wall and CPU time alike; ``cpu``: CPU time alone;
            ``cpu-unless-contradicted``: CPU time, while wall time has not said the opposite;
            ``wall``: wall time alone; ``starts``: the median of wall time of each pair of
            processes.
        block: rounds whose minimum is one sign of wall time; with ``starts``, rounds of one pair of
            processes, whose median is one sign.
        min_rounds: rounds below which nothing is decided.
        restarts: whether each sign takes a new pair of processes.
    """

    name: str
    deciding: Deciding
    block: int
    min_rounds: int
    restarts: bool = False

    def details(self) -> dict[str, JSON]:
        """Return it as a verdict states it."""
        return {
            "name": self.name,
            "deciding": self.deciding,
            "block": self.block,
            "min_rounds": self.min_rounds,
            "restarts": self.restarts,
        }


def choose(
    call_ns: float,
    *,
    threads: int,
    cpu_time_is_valid: bool,
    clock: Mode,
    block: int = 5,
    min_rounds: int = 30,
) -> Procedure:
    """Return the procedure for a pair of models.

    A batch makes a call longer and nothing else, so it enters by the duration of a call.

    Args:
        call_ns: duration of a call of the slower model.
        threads: threads of one operator; 0 where the runtime chooses.
        cpu_time_is_valid: whether both sides have CPU times that say something.
        clock: which clock the user lets decide.
        block: rounds of a block of wall time, for calls of one thread.
        min_rounds: rounds below which nothing is decided, for short calls.
    """
    if threads != 1 and cpu_time_is_valid:
        rounds = ROUNDS_PER_START * FEWEST_SIGNS
        return Procedure("several threads", "starts", ROUNDS_PER_START, rounds, restarts=True)
    if not cpu_time_is_valid or clock == "wall-only":
        return Procedure("wall time", "wall", block, max(min_rounds, FEWEST_SIGNS * block))
    if clock == "cpu-led":
        return Procedure("cpu-led", "cpu", block, min_rounds)
    if call_ns < LONG_CALL_NS:
        return Procedure("short calls", "agree", block, min_rounds)
    # So many that wall time could have contradicted.
    rounds = max(min_rounds, FEWEST_SIGNS * block)
    return Procedure("long calls", "cpu-unless-contradicted", block, rounds)


def procedure_of(
    timings: PairedTimings, *, threads: int, clock: Mode, block: int = 5, min_rounds: int = 30
) -> Procedure:
    """Return the procedure for timings; what later rounds add never changes it.

    The duration of a call is the shortest one of the first :data:`CHOOSING_ROUNDS` rounds, of the
    slower model: no sign that decides has a part in the choice.
    """
    first = [
        float(wall_ns[:CHOOSING_ROUNDS].min()) if timings.rounds else 0.0
        for wall_ns in (timings.baseline_wall_ns, timings.candidate_wall_ns)
    ]
    return choose(
        max(first),
        threads=threads,
        cpu_time_is_valid=has_cpu_times(timings),
        clock=clock,
        block=block,
        min_rounds=min_rounds,
    )
