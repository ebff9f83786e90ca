"""How often is a verdict wrong or missing at 5% from the threshold, with one noisy neighbor?

    python -m benchmarks.near_threshold --trials 20

A planted model of 5 ms against one that does exactly half its work, at thresholds that put the true
ratio 2 at 0.95 and 1.05 of what is required, each trial in fresh processes, while another process
works for 20 to 200 ms and rests for 0 to 100 ms, again and again. Targets: at most 2% of the
verdicts are wrong, at most 20% are inconclusive within 60 s. The exit code follows the shares; that
a rate lies below 2%, its interval shows from 183 trials without a wrong verdict on.
"""

from __future__ import annotations

import argparse
import random
import sys

from benchmarks.common import finish, print_context, print_table, scratch
from benchmarks.planted_pairs import CELLS, Tally, judge_pair, planted, repetition_ns
from pytest_edgeai.records import Threshold
from pytest_edgeai.selfcheck.disturbance import bursts
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import Workshop

CALL_NS = 5e6
RATIO = 2.0
WRONG_LIMIT = 0.02
INCONCLUSIVE_LIMIT = 0.20


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="of each side of the threshold")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of one verdict")
    parser.add_argument("--neighbors", type=int, default=1)
    arguments = parser.parse_args()
    print_context()
    tallies = [Tally(0.95), Tally(1.05)]
    with scratch() as folder:
        workshop = Workshop(folder)
        candidate = planted(CALL_NS / RATIO, repetition_ns(workshop))
        baseline = PlantedModel(repetitions=int(RATIO * candidate.repetitions))
        for _ in range(arguments.trials):
            for tally in random.sample(tallies, 2):
                threshold = Threshold(RATIO / tally.relative, "at_least", "benchmark")
                with bursts(arguments.neighbors):
                    verdict, seconds = judge_pair(
                        workshop, baseline, candidate, threshold, arguments.budget
                    )
                tally.verdicts.append(verdict)
                tally.seconds.append(seconds)
    rows = [[f"{tally.relative:.2f}", *tally.cells()] for tally in tallies]
    print_table(("true ratio / threshold", *CELLS), rows)
    missed = []
    for tally in tallies:
        shares = ((tally.wrong, WRONG_LIMIT), (tally.inconclusive, INCONCLUSIVE_LIMIT))
        for (share, limit), what in zip(shares, ("wrong", "inconclusive"), strict=True):
            if share.count > limit * share.trials:
                missed.append(f"{tally.relative:.2f}: {share.count} of {share.trials} {what}")
    target = f"{WRONG_LIMIT:.0%} wrong, {INCONCLUSIVE_LIMIT:.0%} inconclusive at most"
    return finish(missed, target)


if __name__ == "__main__":
    sys.exit(main())
