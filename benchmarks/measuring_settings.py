"""Are verdicts right for long calls, several threads, batches, and devices without CPU time?

    python -m benchmarks.measuring_settings --seconds 360

Planted models in fresh processes, each judged by the settings that
:func:`pytest_edgeai.judge.procedure.choose` gives it:

- ``long``: calls of 50 ms; ``busy long``: the same with one noisy neighbor;
- ``batch``: 8 samples a call of 20 ms in all;
- ``threads``: matrix products of 5 ms that NumPy's BLAS shares out among all cores;
- ``wall``: a device that works for 5 ms while the process waits; ``busy wall``: the same with one
  noisy neighbor.

Each is asked about itself (A/A) at 0.95 and 1.05 of the threshold, and about a model that does half
its work at 0.95, 1.05 and 1.15. Trials are taken in random order until the time is up; with none
wrong of n, the upper bound of the interval is about 3.7 / n. Target: at most 2% wrong in each
family; inconclusive is not wrong.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.common import finish, print_context, print_table, scratch
from benchmarks.planted_pairs import CELLS, Tally, share_text
from pytest_edgeai.judge.procedure import choose
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, close_all
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.restarts import interleave_starts
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.records import PairedTimings, RuntimeOptions, Threshold, Verdict
from pytest_edgeai.selfcheck.disturbance import bursts
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.rates import rate
from pytest_edgeai.selfcheck.workload import FRAMEWORK, TIME_LIMIT_S, Workshop

WRONG_LIMIT = 0.02
TRIAL_REPETITIONS = 200
STEP = 2
"""Repetitions are a multiple of it, so that half the work is a whole number."""


@dataclass
class Family:
    """Models of one kind.

    Attributes:
        name: what tables call it.
        device: class of :mod:`benchmarks.planted_devices`; empty for the plain planted framework.
        call_ns: duration of a call of the slower model.
        threads: as the user would state them.
        cpu_time_is_valid: whether CPU time says something.
        batch: samples of a call.
        neighbors: noisy processes beside it.
    """

    name: str
    device: str
    call_ns: float
    threads: int = 1
    cpu_time_is_valid: bool = True
    batch: int = 1
    neighbors: int = 0
    repetitions: int = field(default=0, init=False)

    def load(self, workshop: Workshop, path: Path) -> LoadedRunnable:
        """Load a model in a fresh process."""
        framework = replace(FRAMEWORK, cpu_time_is_valid=self.cpu_time_is_valid)
        if self.device:
            framework = replace(
                framework, implementation=f"benchmarks.planted_devices:{self.device}"
            )
        options = RuntimeOptions(threads=self.threads)
        known = workshop.evaluation().samples
        samples = Samples(known.arrays, known.count, Batching(self.batch, fixed=True))
        runnable = Runnable(framework, Path(sys.executable), path, options)
        return LoadedRunnable(runnable, samples, time_limit_s=TIME_LIMIT_S)

    @contextmanager
    def pair(self, workshop: Workshop, work: Sequence[int]) -> Iterator[tuple[LoadedRunnable, ...]]:
        """Load two models, and end them."""
        models: list[LoadedRunnable] = []
        paths = [workshop.folder / f"{self.name}-{repetitions}.json" for repetitions in work]
        for path, repetitions in zip(paths, work, strict=True):
            PlantedModel(repetitions=repetitions).write(path)
        try:
            with ThreadPoolExecutor(len(work)) as pool:
                models.extend(pool.map(lambda each: self.load(workshop, each), paths))
            yield tuple(models)
        finally:
            close_all(models)

    def calibrate(self, workshop: Workshop) -> None:
        """Find the repetitions of a call."""
        one_ns = 1000.0
        if self.device != "Waiting":
            with self.pair(workshop, [TRIAL_REPETITIONS]) as (model,):
                model.time_calls(10)
                one_ns = float(model.time_calls(30).wall_ns.min()) / TRIAL_REPETITIONS
        self.repetitions = STEP * max(1, round(self.call_ns / one_ns / STEP))

    def judge(
        self, workshop: Workshop, speedup: int, threshold: Threshold, budget_s: float
    ) -> tuple[Verdict, float]:
        """Measure a pair as the product would; return the verdict and the seconds."""
        work = self.repetitions, self.repetitions // speedup
        procedure = choose(
            self.call_ns,
            threads=self.threads,
            cpu_time_is_valid=self.cpu_time_is_valid,
            clock="agree",
        )

        def decided(timings: PairedTimings) -> bool:
            return speed_decided(timings, threshold, threads=self.threads)

        begin = time.perf_counter()
        if procedure.restarts:
            timings, spent = interleave_starts(
                lambda: self.pair(workshop, work),  # type: ignore[arg-type, return-value]
                Rounds.of(2),
                rounds_per_start=procedure.block,
                decided=decided,
                is_contended=is_contended,
                budget_s=budget_s,
                generator=random.Random(),
                progress=lambda rounds, seconds: None,
                waiting=lambda rounds, seconds: None,
            )
        else:
            with self.pair(workshop, work) as (baseline, candidate):
                timings, spent = interleave(
                    baseline,
                    candidate,
                    Rounds.of(2),
                    decided=decided,
                    is_contended=is_contended,
                    budget_s=budget_s,
                    generator=random.Random(),
                    progress=lambda rounds, seconds: None,
                )
        seconds = time.perf_counter() - begin
        verdict = judge_speed(timings, threshold, budget_spent=spent, threads=self.threads)
        return verdict, seconds


FAMILIES = (
    Family("long", "", 50e6),
    Family("busy long", "", 50e6, neighbors=1),
    Family("batch", "Batched", 20e6, batch=8),
    Family("threads", "Threaded", 5e6, threads=2),
    Family("wall", "Waiting", 5e6, cpu_time_is_valid=False),
    Family("busy wall", "Waiting", 5e6, cpu_time_is_valid=False, neighbors=1),
)
QUESTIONS = ((1, 0.95), (1, 1.05), (2, 0.95), (2, 1.05), (2, 1.15))


def pooled(tallies: Sequence[Tally]) -> tuple[str, str, bool]:
    """Return the shares of wrong and inconclusive verdicts of a family; whether it is too bad."""
    wrong = sum(tally.wrong.count for tally in tallies)
    inconclusive = sum(tally.inconclusive.count for tally in tallies)
    trials = sum(len(tally.verdicts) for tally in tallies)
    return (
        share_text(rate(wrong, trials)),
        share_text(rate(inconclusive, trials)),
        wrong > WRONG_LIMIT * trials,
    )


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=360.0, help="of all trials")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of one verdict")
    parser.add_argument("--family", action="append", choices=[each.name for each in FAMILIES])
    arguments = parser.parse_args()
    families = [each for each in FAMILIES if each.name in (arguments.family or [each.name])]
    print_context()
    tallies = {
        (family.name, speedup, relative): Tally(relative)
        for family, (speedup, relative) in itertools.product(families, QUESTIONS)
    }
    deadline = time.monotonic() + arguments.seconds
    with scratch() as folder:
        workshop = Workshop(folder)
        for family in families:
            family.calibrate(workshop)
        while time.monotonic() < deadline:
            everything = list(itertools.product(families, QUESTIONS))
            for family, (speedup, relative) in random.sample(everything, len(everything)):
                if time.monotonic() >= deadline:
                    break
                threshold = Threshold(speedup / relative, "at_least", "benchmark")
                with bursts(family.neighbors):
                    verdict, seconds = family.judge(workshop, speedup, threshold, arguments.budget)
                tally = tallies[family.name, speedup, relative]
                tally.verdicts.append(verdict)
                tally.seconds.append(seconds)
    rows = [
        [name, "A/A" if speedup == 1 else f"{speedup}x", f"{relative:.2f}", *tally.cells()]
        for (name, speedup, relative), tally in tallies.items()
        if tally.verdicts
    ]
    print_table(("models", "pair", "true ratio / threshold", *CELLS), rows)
    print()
    summary, missed = [], []
    for family in families:
        own = [tally for key, tally in tallies.items() if key[0] == family.name]
        wrong, inconclusive, too_bad = pooled(own)
        known = next((each.verdicts[0] for each in own if each.verdicts), None)
        decided_by = known.details["procedure"]["deciding"] if known else ""
        summary.append([family.name, decided_by, wrong, inconclusive])
        if too_bad:
            missed.append(f"{family.name}: {wrong} wrong")
    print_table(("models", "decided by", "wrong", "inconclusive"), summary)
    return finish(missed, f"at most {WRONG_LIMIT:.0%} wrong")


if __name__ == "__main__":
    sys.exit(main())
