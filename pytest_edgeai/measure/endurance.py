"""Constant load on a candidate with its baseline beside it, then a spike, then what comes after.

Turns as in :mod:`pytest_edgeai.measure.stability`, but of a chosen length, in which most calls are
made and not timed: an hour of load leaves as many samples as a minute. Three quarters of the time
are the candidate's. Both run alone, since each would disturb the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_edgeai.errors import MeasurementError, WorkerFailure
from pytest_edgeai.measure.cores import place
from pytest_edgeai.measure.endurance_models import EnduringModel, Reading
from pytest_edgeai.measure.endurance_sensors import SensorTrace
from pytest_edgeai.measure.latency import settled
from pytest_edgeai.measure.stability import Turns, samples
from pytest_edgeai.production_records import BurstSamples, CountSamples, EnduranceSamples
from pytest_edgeai.records import StabilitySamples

KEPT_CALLS = 60
"""Timed calls of a turn: their median is all that counts."""

CANDIDATE_SHARE = 0.75
TURNS_OF = {300.0: 48, float("inf"): 96}
"""Turns of a load that lasts up to so many seconds."""

FEWER_TURNS = (48, 24, 12)
CALLS_OF_A_TURN = (3, 5)
"""Calls of baseline and candidate that a turn has to hold; otherwise there are fewer turns."""

LATER_SHARE, LATER_S = 0.2, 15.0
"""What is left of the time for the warm-up, the spike and what follows it."""

SPIKE_SHARE, SPIKE_S = 0.04, 3.0
"""Length of the spike: that share of the whole, and so many seconds at most."""

AFTER_TURN_S = 0.4
AFTER_TURNS = 8
"""Turns that a model is given after a spike, however long they take."""

WRITE_EVERY_S = 60.0
_NAMES = ("baseline", "candidate")


@dataclass(frozen=True)
class LoadPlan:
    """How a load is divided; of two numbers the baseline's is the first.

    Attributes:
        turns: how many of them.
        seconds: of each turn.
        kept: timed calls of each turn.
    """

    turns: int
    seconds: tuple[float, float]
    kept: tuple[int, int]


CALLS_MARGIN = 1.1
"""Calls take longer under load than while they were timed."""


def plan_load(call_ns: Sequence[float], length_s: float) -> LoadPlan:
    """Divide ``length_s`` seconds of load into turns.

    Args:
        call_ns: duration of a call of baseline and candidate.
        length_s: everything together, the spike and what follows it included.
    """
    load_s = length_s - min(LATER_S, LATER_SHARE * length_s)
    most = next(turns for limit, turns in TURNS_OF.items() if length_s <= limit)
    for turns in (most, *FEWER_TURNS):
        seconds = _shared(load_s / turns)
        calls = [1e9 * s / max(call, 1.0) for s, call in zip(seconds, call_ns, strict=True)]
        if all(has >= needs for has, needs in zip(calls, CALLS_OF_A_TURN, strict=True)):
            break
    kept = [max(1, min(KEPT_CALLS, int(count))) for count in calls]
    return LoadPlan(turns, seconds, (kept[0], kept[1]))


def _shared(seconds: float) -> tuple[float, float]:
    return (1 - CANDIDATE_SHARE) * seconds, CANDIDATE_SHARE * seconds


@dataclass
class Trace:
    """A load as it grows; what was measured before an interruption is gone on with.

    Attributes:
        turns: times and memory.
        descriptors: for each model, one for each reading of the memory; ``None``: not told.
        threads: likewise.
        sensors: of the host.
        plan: how the load is divided; ``None`` before the first turn.
        starts: turns before which the processes were started anew.
        spent_s: seconds of constant load so far.
        died: how the candidate's process ended.
    """

    turns: Turns = field(default_factory=Turns)
    descriptors: list[list[int | None]] = field(default_factory=lambda: [[], []])
    threads: list[list[int | None]] = field(default_factory=lambda: [[], []])
    sensors: SensorTrace = field(default_factory=SensorTrace)
    plan: LoadPlan | None = None
    starts: list[int] = field(default_factory=list)
    spent_s: float = 0.0
    died: str = ""

    def samples(
        self, *, cpu_time_is_valid: bool, burst: BurstSamples | None = None
    ) -> EnduranceSamples:
        """Return the load so far as a record."""
        counts = [
            CountSamples(_column(self.descriptors[index]), _column(self.threads[index]))
            for index in range(2)
        ]
        return EnduranceSamples(
            turns=samples(self.turns, cpu_time_is_valid=cpu_time_is_valid),
            baseline=counts[0],
            candidate=counts[1],
            sensors=self.sensors.samples(),
            planned_turns=self.plan.turns if self.plan else 0,
            seconds=self.spent_s,
            starts=tuple(self.starts),
            burst=burst,
            died=self.died,
        )


class ConstantLoad:
    """Two models under load, whose trace grows turn by turn."""

    def __init__(
        self,
        baseline: EnduringModel,
        candidate: EnduringModel,
        trace: Trace,
        *,
        length_s: float,
        generator: random.Random,
        fewest_calls: int = 0,
        longest_s: float = 0.0,
    ) -> None:
        """Warm both models up and divide the load; nothing is kept of that.

        Args:
            baseline: the baseline, just loaded.
            candidate: likewise.
            trace: what was measured before; its plan is kept.
            length_s: everything together; see :func:`plan_load`.
            generator: source of the random order and of the cores.
            fewest_calls: of the candidate; where they take longer than ``length_s``, so does the
                load, up to ``longest_s``.
            longest_s: see ``fewest_calls``.

        Raises:
            EdgeAIError: a worker failed.
        """
        self._models = (baseline, candidate)
        self._trace = trace
        self._generator = generator
        self._spike_s = min(SPIKE_S, SPIKE_SHARE * length_s)
        self.cpu_time_is_valid = baseline.cpu_time_is_valid and candidate.cpu_time_is_valid
        known = settled(self._models, limit_s=LATER_SHARE * length_s / 4)
        if trace.plan is None:
            calls_s = fewest_calls * known[1].call_ns / 1e9 / CANDIDATE_SHARE
            needed_s = CALLS_MARGIN * calls_s + LATER_S
            length_s = max(length_s, min(needed_s, longest_s))
            trace.plan = plan_load([model.call_ns for model in known], length_s)
            trace.turns.kept = list(trace.plan.kept)
        self.plan = trace.plan
        first = [model.endure(0.0, 1) for model in self._models]
        trace.starts.append(len(trace.turns))
        # What a new process holds is put on top of what the one before held: only growth counts.
        self._offsets = [_Offsets.onto(trace, index, first[index]) for index in range(2)]
        if not len(trace.turns):
            for index, reading in enumerate(first):
                _note(trace, index, reading, 0, self._offsets[index])
            trace.sensors.read()

    def run(
        self,
        turns: int,
        *,
        progress: Callable[[int, float], None],
        write: Callable[[], None],
    ) -> None:
        """Go on until there are ``turns`` turns, or the candidate's process has ended.

        Args:
            turns: all turns, those before an interruption included.
            progress: called with the turns so far and the seconds left.
            write: called once a minute.

        Raises:
            EdgeAIError: the baseline's worker failed.
        """
        trace, written = self._trace, time.monotonic()
        before = len(trace.turns)
        began, spent_before = time.monotonic(), trace.spent_s
        while len(trace.turns) < turns and not trace.died:
            self._turn(trace.turns, self.plan.seconds, counts=True)
            spent = time.monotonic() - began
            trace.spent_s = spent_before + spent
            done = max(len(trace.turns) - before, 1)
            progress(len(trace.turns), spent / done * (turns - len(trace.turns)))
            if time.monotonic() - written >= WRITE_EVERY_S:
                write()
                written = time.monotonic()

    def spike(
        self,
        *,
        recovered: Callable[[BurstSamples], bool],
        limit_s: float,
        progress: Callable[[str], None],
    ) -> BurstSamples | None:
        """Run the candidate as hard as it goes, then in turns until it is what it was.

        Args:
            recovered: asked after every turn.
            limit_s: after so long no turn is begun, but for the first :data:`AFTER_TURNS`.
            progress: called with what is being done.

        Returns:
            The spike and the turns after it; ``None`` where the candidate's process ended.

        Raises:
            EdgeAIError: the baseline's worker failed.
        """
        progress("a spike of load")
        began = time.monotonic()
        try:
            spike = self._models[1].spike(self._spike_s)
        except WorkerFailure as error:
            self._trace.died = f"in the spike: {error.what}"
            return None
        ended = time.monotonic()
        after, ended_s = Turns(kept=list(self.plan.kept)), []
        while True:
            self._turn(after, _shared(AFTER_TURN_S), counts=False)
            if self._trace.died:
                self._trace.died = f"after the spike: {self._trace.died}"
                return None
            ended_s.append(time.monotonic() - ended)
            burst = BurstSamples(
                streams=spike.streams,
                calls=spike.calls,
                seconds=ended - began,
                errors=spike.errors,
                what=spike.what,
                after=self._after(after),
                ended_s=np.asarray(ended_s, np.float64),
            )
            progress(f"after the spike ({len(after)} turns)")
            enough = len(after) >= AFTER_TURNS and ended_s[-1] >= limit_s
            if enough or recovered(burst):
                return burst

    def _after(self, turns: Turns) -> StabilitySamples:
        return samples(turns, cpu_time_is_valid=self.cpu_time_is_valid)

    def _turn(self, turns: Turns, seconds: Sequence[float], *, counts: bool) -> None:
        """Give each model its turn; one in which the candidate's process ends is not kept."""
        rounds = turns.rounds
        readings: list[Reading | None] = [None, None]
        core = place(self._models, rounds.core, rounds.preempted, self._generator, keep=False)
        order = [0, 1]
        self._generator.shuffle(order)
        for index in order:
            try:
                readings[index] = self._models[index].endure(seconds[index], turns.kept[index])
            except WorkerFailure as error:
                if index == 0:
                    raise
                self._trace.died = error.what
                return
        preempted = total = 0
        for index, reading in enumerate(readings):
            assert reading is not None
            rounds.wall_ns[index].extend(reading.times.wall_ns.tolist())
            rounds.cpu_ns[index].extend(reading.times.cpu_ns.tolist())
            rounds.preemptions[index].extend(reading.times.preemptions.tolist())
            preempted += int(np.count_nonzero(reading.times.preemptions))
            total += len(reading.times.wall_ns)
            if counts:
                _note(self._trace, index, reading, reading.calls, self._offsets[index])
            else:
                _note_memory(turns, index, reading, reading.calls, 0)
        rounds.order.append(order[0])
        rounds.attempt.append(0)
        rounds.core.append(core)
        rounds.preempted.append(preempted / max(total, 1))
        if counts:
            self._trace.sensors.read()


@dataclass(frozen=True)
class _Offsets:
    """What is added to the readings of a process so that they go on where the last one ended."""

    held_bytes: int = 0
    descriptors: int = 0
    threads: int = 0

    @classmethod
    def onto(cls, trace: Trace, index: int, first: Reading) -> _Offsets:
        if not trace.turns.memory_bytes[index]:
            return cls()
        return cls(
            trace.turns.memory_bytes[index][-1] - first.held_bytes,
            (trace.descriptors[index][-1] or 0) - (first.descriptors or 0),
            (trace.threads[index][-1] or 0) - (first.threads or 0),
        )


def _note(trace: Trace, index: int, reading: Reading, calls: int, offsets: _Offsets) -> None:
    _note_memory(trace.turns, index, reading, calls, offsets.held_bytes)
    for column, value, offset in (
        (trace.descriptors, reading.descriptors, offsets.descriptors),
        (trace.threads, reading.threads, offsets.threads),
    ):
        column[index].append(None if value is None else value + offset)


def _note_memory(turns: Turns, index: int, reading: Reading, calls: int, offset: int) -> None:
    if turns.definition and reading.definition != turns.definition:
        raise MeasurementError(
            f"memory was measured in different ways: {turns.definition}, {reading.definition}"
        )
    turns.definition = reading.definition
    before = turns.calls[index]
    before.append((before[-1] if before else 0) + calls)
    turns.memory_bytes[index].append(reading.held_bytes + offset)


def _column(values: Sequence[int | None]) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    known = [value for value in values if value is not None]
    return np.asarray(known, np.int64) if known and len(known) == len(values) else None
