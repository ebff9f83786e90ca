"""Interleaved rounds of two or more models, as they are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.records import BoolArray, Int64Array, PairedTimings


@dataclass
class Rounds:
    """Interleaved rounds of two or more models, grown round by round.

    Attributes:
        wall_ns: for each model, the wall time of what counts of every round: one judged call, or
            the calls of a burst.
        cpu_ns: likewise, CPU time.
        preemptions: likewise, involuntary context switches.
        lead_in_wall_ns: for each model, the wall times of all calls that led in, as they came.
        order: for each round, the index of the model that ran first.
        attempt: for each round, the attempt that it belongs to.
        core: for each round, the core that all models ran on; -1 where the scheduler chose.
        preempted: for each round, the share of its calls that were preempted.
        wait_before_round: for each wait for other processes, the number of rounds before it.
        wait_ns: for each of them, how long it lasted.
        warm_up_calls: for each model, the calls that warmed it up; empty before.
        warm_up_settled: for each model, whether every warm-up of it ended by its rule; likewise.
    """

    wall_ns: list[list[int]]
    cpu_ns: list[list[int]]
    preemptions: list[list[int]]
    lead_in_wall_ns: list[list[int]]
    order: list[int] = field(default_factory=list)
    attempt: list[int] = field(default_factory=list)
    core: list[int] = field(default_factory=list)
    preempted: list[float] = field(default_factory=list)
    wait_before_round: list[int] = field(default_factory=list)
    wait_ns: list[int] = field(default_factory=list)
    warm_up_calls: list[int] = field(default_factory=list)
    warm_up_settled: list[bool] = field(default_factory=list)

    @classmethod
    def of(cls, models: int) -> Rounds:
        """Return an empty record for ``models`` models."""

        def columns() -> list[list[int]]:
            return [[] for _ in range(models)]

        return cls(columns(), columns(), columns(), columns())

    def __len__(self) -> int:
        return len(self.order)

    def add(
        self,
        order: Sequence[int],
        turns: Sequence[CallTimes],
        lead_in: Sequence[int],
        core: int,
        attempt: int,
    ) -> None:
        """Add a round.

        Args:
            order: the indices of the models in the order of their turns.
            turns: what the calls of each of these turns took.
            lead_in: for each model, the calls that began its turn.
            core: that all models ran on; -1 where the scheduler chose.
            attempt: that the round belongs to.
        """
        calls = preempted = 0
        for index, times in zip(order, turns, strict=True):
            count = lead_in[index]
            calls += len(times.preemptions)
            preempted += int(np.count_nonzero(times.preemptions))
            self.lead_in_wall_ns[index].extend(times.wall_ns[:count].tolist())
            self.wall_ns[index].extend(times.wall_ns[count:].tolist())
            self.cpu_ns[index].extend(times.cpu_ns[count:].tolist())
            self.preemptions[index].extend(times.preemptions[count:].tolist())
        self.order.append(order[0])
        self.attempt.append(attempt)
        self.core.append(core)
        self.preempted.append(preempted / max(calls, 1))

    def note_wait(self, seconds: float) -> None:
        """Add a wait after the last round."""
        self.wait_before_round.append(len(self))
        self.wait_ns.append(round(seconds * 1e9))


def paired(rounds: Rounds, *, cpu_time_is_valid: bool) -> PairedTimings:
    """Return rounds of exactly two models, baseline first, as a record."""
    baseline, candidate = 0, 1

    def column(values: Sequence[int]) -> Int64Array:
        return np.asarray(values, dtype=np.int64)

    first: BoolArray = np.asarray(rounds.order, dtype=np.int64) == baseline
    return PairedTimings(
        baseline_wall_ns=column(rounds.wall_ns[baseline]),
        candidate_wall_ns=column(rounds.wall_ns[candidate]),
        baseline_cpu_ns=column(rounds.cpu_ns[baseline]) if cpu_time_is_valid else None,
        candidate_cpu_ns=column(rounds.cpu_ns[candidate]) if cpu_time_is_valid else None,
        baseline_preemptions=column(rounds.preemptions[baseline]),
        candidate_preemptions=column(rounds.preemptions[candidate]),
        baseline_first=first,
        attempt=column(rounds.attempt),
        core=column(rounds.core),
        wait_before_round=column(rounds.wait_before_round),
        wait_ns=column(rounds.wait_ns),
        warm_up_calls=column(rounds.warm_up_calls),
        warm_up_settled=np.asarray(rounds.warm_up_settled, dtype=np.bool_),
    )
