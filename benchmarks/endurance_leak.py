"""Is a leak of 100 kB per 1,000 calls found in five minutes, and a healthy model left alone?

    python -m benchmarks.endurance_leak --seconds 300 --leaks 1 --trials 2000

First healthy pairs in real runtimes are put under constant load and their memory, times, files and
threads recorded, turn by turn; then planted models of 5 ms that keep 100 kB of every 1,000 calls,
in small pieces and in one. Each is judged as the gate does, spike excluded.

Then the judge is asked about many loads that might have been: the turns of a recorded healthy load
in blocks drawn at random (moving block bootstrap, Künsch 1989), so that what comes together stays
together, its first turns kept in front; as they are, and with the leak added. Targets: at most 1%
of the healthy ones fail, and the leak is found. The exit code follows.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import (
    LIMIT_S,
    ROOT,
    finish,
    make_subject,
    print_context,
    print_table,
    scratch,
)
from pytest_edgeai.judge.endurance import (
    judge_constant_load,
    judge_load_memory,
    load_is_decided,
)
from pytest_edgeai.judge.verdict import bytes_text, worst
from pytest_edgeai.measure.bench import Runnable, Samples, close_all
from pytest_edgeai.measure.endurance import ConstantLoad, Trace
from pytest_edgeai.measure.endurance_models import (
    EnduringTensors,
    EnduringText,
    load_enduring,
)
from pytest_edgeai.production_records import EnduranceSamples
from pytest_edgeai.records import Int64Array, Outcome, StabilitySamples, Threshold, TurnSamples
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.rates import rate
from pytest_edgeai.selfcheck.workload import Workshop, repetitions_for

sys.path.insert(0, str(ROOT / "tests"))

LEAK_BYTES = 100_000.0
"""Per 1,000 calls."""

LIMIT = Threshold(50_000.0, "at_most", "benchmark")
CALL_NS = 5e6
BLOCK_TURNS, FIRST_TURNS = 6, 6
FALSE_ALARMS = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """A load that was measured.

    Attributes:
        name: of the pair.
        samples: the load.
        outcome: of its parts, the spike excluded.
    """

    name: str
    samples: EnduranceSamples
    outcome: Outcome


@contextmanager
def pair(
    runnables: Sequence[Runnable], samples: Samples
) -> Iterator[tuple[EnduringTensors | EnduringText, EnduringTensors | EnduringText]]:
    """Load baseline and candidate in fresh processes."""
    loaded = []
    try:
        for runnable in runnables:
            loaded.append(
                load_enduring(runnable, samples, None, size_bytes=0, time_limit_s=LIMIT_S)
            )
        yield loaded[0], loaded[1]
    finally:
        close_all(loaded)


def record(name: str, runnables: Sequence[Runnable], samples: Samples, seconds: float) -> Recorded:
    """Put a pair under load as the gate does, with its second look."""
    with pair(runnables, samples) as (baseline, candidate):
        trace = Trace()
        load = ConstantLoad(
            baseline, candidate, trace, length_s=seconds, generator=random.Random(0)
        )
        for turns in (load.plan.turns, 2 * load.plan.turns):
            load.run(turns, progress=lambda done, left: None, write=lambda: None)
            measured = trace.samples(cpu_time_is_valid=load.cpu_time_is_valid)
            if load_is_decided(measured, LIMIT):
                break
    outcome, text = judged(measured)
    print(f"  {name}: {text}", flush=True)
    return Recorded(name, measured, outcome)


def judged(samples: EnduranceSamples) -> tuple[Outcome, str]:
    """Return the worst outcome of memory, drift, files and threads, and what of the memory."""
    memory = judge_load_memory(samples, LIMIT)
    parts = [part.outcome for part in judge_constant_load(samples) if part.outcome is not None]
    return worst([memory.outcome, *parts]), memory.reason


def might_have_been(
    samples: EnduranceSamples, turns: int, generator: np.random.Generator, leak: float
) -> EnduranceSamples:
    """Return a load of ``turns`` turns drawn in blocks from a recorded one.

    Args:
        samples: the recorded load.
        turns: of the load that is drawn.
        generator: source of the blocks.
        leak: bytes per call that are added to the candidate's memory.
    """
    index = drawn(samples.turns.turns, turns, generator)

    def side(turns_of: TurnSamples, leaked: float) -> TurnSamples:
        calls = np.diff(turns_of.calls_before)[index]
        grown = np.diff(turns_of.memory_bytes)[index] + np.rint(leaked * calls).astype(np.int64)
        return TurnSamples(
            turns_of.wall_ns[index],
            None if turns_of.cpu_ns is None else turns_of.cpu_ns[index],
            turns_of.preemptions[index],
            _summed(0, calls),
            _summed(int(turns_of.memory_bytes[0]), grown),
        )

    stability = StabilitySamples(
        side(samples.turns.baseline, 0.0),
        side(samples.turns.candidate, leak),
        samples.turns.memory_definition,
    )
    return dataclasses.replace(samples, turns=stability)


def drawn(recorded: int, turns: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the recorded turns that make a drawn load: the first, then blocks of the others."""
    first = np.arange(min(FIRST_TURNS, turns))
    blocks = -(-(turns - len(first)) // BLOCK_TURNS)
    begins = generator.integers(FIRST_TURNS, recorded - BLOCK_TURNS + 1, size=blocks)
    rest = (begins[:, None] + np.arange(BLOCK_TURNS)).reshape(-1)
    return np.concatenate([first, rest])[:turns]


def _summed(first: int, increments: Int64Array) -> Int64Array:
    return np.concatenate([[first], first + np.cumsum(increments)]).astype(np.int64)


def simulate(samples: EnduranceSamples, generator: np.random.Generator, leak: float) -> Outcome:
    """Judge a load that might have been, with a second look where the first does not decide."""
    planned = samples.planned_turns
    first = might_have_been(samples, planned, generator, leak)
    if load_is_decided(first, LIMIT):
        return judged(first)[0]
    return judged(might_have_been(samples, 2 * planned, generator, leak))[0]


def healthy(folder: Path) -> Iterator[tuple[str, list[Runnable], Samples]]:
    """Yield healthy pairs in real runtimes, and a planted one."""
    for name in ("digits", "cnn-8"):
        subject = make_subject(name, folder)
        made = [subject.load(framework) for framework in ("onnxruntime", "openvino")]
        close_all(made)
        runtime, vino = (model.runnable for model in made)
        yield f"{name}: ONNX Runtime, OpenVINO int8", [runtime, vino], subject.samples
        yield f"{name}: OpenVINO int8, ONNX Runtime", [vino, runtime], subject.samples


def planted(folder: Path) -> Callable[[int, int], tuple[list[Runnable], Samples]]:
    """Return a function that makes a healthy planted baseline and a candidate that keeps bytes."""
    from enduring import runnable
    from enduring_frameworks import Fault

    workshop = Workshop(folder / "planted")
    call_ns = 500_000.0
    work = PlantedModel(repetitions=repetitions_for(CALL_NS, call_ns / workshop.repetitions()))

    def make(kept_bytes: int, kept_every: int) -> tuple[list[Runnable], Samples]:
        place = workshop.folder
        paths = (
            Fault(planted=work).write(place / "healthy.json"),
            Fault(planted=work, kept_bytes=kept_bytes, kept_every=kept_every).write(
                place / f"keeps-{kept_bytes}.json"
            ),
        )
        return [runnable(path) for path in paths], workshop.evaluation().samples

    return make


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of each recorded load")
    parser.add_argument("--leaks", type=int, default=1, help="measured loads of each leak")
    parser.add_argument("--healthy", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--trials", type=int, default=2000, help="drawn loads, half with the leak")
    arguments = parser.parse_args()
    print_context("onnxruntime", "openvino")
    missed = []
    with scratch() as folder:
        make = planted(folder)
        pairs = [("planted, 5 ms", *make(0, 1)), *healthy(folder)] if arguments.healthy else []
        recorded = [record(*known, arguments.seconds) for known in pairs]
        # An array is 112 bytes and a place in a list beside its content.
        leaks = [
            record(f"planted leak, {text}", *make(*kept), arguments.seconds)
            for _ in range(arguments.leaks)
            for text, kept in (
                ("1 kB every 10 calls", (880, 10)),
                ("100 kB every 1,000 calls", (99_880, 1000)),
            )
        ]
    rows = []
    for load in (*recorded, *leaks):
        calls = load.samples.turns.candidate.calls_before[-1]
        rows.append([load.name, f"{load.samples.seconds:.0f}", f"{calls:,}", load.outcome])
    print_table(("load", "s", "calls", "verdict"), rows)
    missed += [f"{load.name} fails" for load in recorded if load.outcome == "fail"]
    missed += [f"{load.name}: {load.outcome}" for load in leaks if load.outcome != "fail"]
    generator = np.random.default_rng(0)
    rows = []
    for load in recorded:
        each = arguments.trials // (2 * len(recorded))
        for leak in (0.0, LEAK_BYTES / 1000):
            outcomes = [simulate(load.samples, generator, leak) for _ in range(each)]
            failed = rate(outcomes.count("fail"), each)
            undecided = outcomes.count("inconclusive")
            rows.append(
                [
                    load.name,
                    bytes_text(1000 * leak),
                    f"{each}",
                    f"{failed.count} ({100 * failed.low:.1f}% to {100 * failed.high:.1f}%)",
                    f"{undecided}",
                ]
            )
            if not leak and failed.count > FALSE_ALARMS * each:
                missed.append(f"{load.name}: {failed.count} of {each} healthy loads fail")
            if leak and failed.count < each:
                missed.append(f"{load.name}: {failed.count} of {each} leaks were found")
    print_table(("drawn from", "leak / 1,000 calls", "loads", "fail", "inconclusive"), rows)
    return finish(missed, "the leak is found, and at most 1% of healthy loads fail")


if __name__ == "__main__":
    sys.exit(main())
