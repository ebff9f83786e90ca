"""What does measuring in turns cost over measuring one model after the other?

    python -m benchmarks.interleaving_cost --repetitions 41

For calls of 0.3, 1, 5, 20 and 50 ms, two planted models in two workers, warm: the time of rounds in
turns as a verdict takes them, the looks of the rule included, over the time of as many calls of
each model in loops, one loop after the other. Every call of a turn counts, since each is kept as
evidence. Both ways take turns every few tenths of a second; ratios are those of neighbors. The last
column is the same per *judged* sample, of which a turn has one: the calls that lead in are what it
takes to judge a model with its weights in the caches. Target: less than 5% over the same number of
calls.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from benchmarks.common import Estimate, finish, print_context, print_table, scratch
from benchmarks.planted_pairs import planted, repetition_ns
from pytest_edgeai.judge.speed import speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.latency import ROUNDS_BETWEEN_LOOKS, settled
from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.measure.rounds import Rounds, paired
from pytest_edgeai.measure.taking import TakesRounds, taking_rounds
from pytest_edgeai.records import Threshold
from pytest_edgeai.selfcheck.workload import Workshop

CALLS_MS = (0.3, 1.0, 5.0, 20.0, 50.0)
LARGEST_RATIO = 1.05
UNDECIDED = Threshold(1.0, "at_least", "benchmark")


def in_turns(rounds: int, measured: Rounds, taker: TakesRounds) -> float:
    """Return the seconds of ``rounds`` rounds with the looks that a measurement takes at them."""
    begin = time.perf_counter()
    while len(measured) < rounds:
        taker.take(rounds, 0)
        if len(measured) % ROUNDS_BETWEEN_LOOKS == 0:
            timings = paired(measured, cpu_time_is_valid=True)
            speed_decided(timings, UNDECIDED)
            is_contended(timings)
    return time.perf_counter() - begin


def one_after_the_other(
    models: Sequence[LoadedRunnable], lead_in: Sequence[int], rounds: int
) -> float:
    """Return the seconds of as many calls of each model in loops."""
    begin = time.perf_counter()
    for model, calls in zip(models, lead_in, strict=True):
        model.time_calls(rounds * (calls + 1))
    return time.perf_counter() - begin


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=41, help="of each way and call time")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each way, about")
    parser.add_argument("--calls-ms", type=float, nargs="+", default=CALLS_MS, help="call times")
    arguments = parser.parse_args()
    print_context()
    rows, missed = [], []
    with scratch() as folder:
        workshop = Workshop(folder)
        one_ns = repetition_ns(workshop)
        for call_ms in arguments.calls_ms:
            model = planted(call_ms * 1e6, one_ns)
            with workshop.loaded(model, model) as models:
                call_ns = [known.call_ns for known in settled(models)]
                lead_in = [lead_in_calls(each) for each in call_ns]
                calls = max(lead_in) + 1
                rounds = max(2, int(arguments.seconds * 1e3 / (2 * calls * call_ms)))
                ratios = []
                for _ in range(arguments.repetitions):
                    turns_first = random.random() < 0.5
                    loops_s = 0.0 if turns_first else one_after_the_other(models, lead_in, rounds)
                    measured = Rounds.of(2)
                    with taking_rounds(
                        models, lead_in, call_ns, measured, random.Random()
                    ) as taker:
                        turns_s = in_turns(rounds, measured, taker)
                    if turns_first:
                        loops_s = one_after_the_other(models, lead_in, rounds)
                    ratios.append(turns_s / loops_s)
            cost = Estimate.of(ratios)
            rows.append(
                [f"{call_ms:g} ms", str(calls), str(rounds), str(cost), f"{cost.value * calls:.1f}"]
            )
            if cost.value >= LARGEST_RATIO:
                missed.append(f"{call_ms:g} ms: {cost}")
    header = ("call", "calls a turn", "rounds", "in turns / in loops", "per judged sample")
    print_table(header, rows)
    return finish(
        missed, f"in turns less than {LARGEST_RATIO - 1:.0%} over the same calls in loops"
    )


if __name__ == "__main__":
    sys.exit(main())
