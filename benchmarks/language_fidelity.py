"""Do tokens per second agree with what llama.cpp's own counters say?

    python -m benchmarks.language_fidelity --model tiny-llama --model 27M

For prefill and decoding of each model and of its candidate in four bits, one thread. Each
repetition is a process of its own (``benchmarks/language_counters.py``) that takes turns with a
worker, as in every measurement of this package, and reads llama.cpp's counters around its own
calls. Two ratios result: ours to theirs for the same calls, which the target is about, within 3% at
the median of the repetitions; and what the worker reports to what the counters say of the turns
beside it, which adds the luck of where both copies of the weights came to lie in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import (
    ROOT,
    Estimate,
    finish,
    print_context,
    print_table,
    scratch,
)
from benchmarks.language_subjects import SHIPPED, Side, TextSubject, make_text_subject
from pytest_edgeai.measure.language import Phase
from pytest_edgeai.stages import STAGE_ROUNDS

LARGEST_DEVIATION = 0.03
SIDES: tuple[Side, ...] = ("baseline", "candidate")
PHASES: tuple[Phase, ...] = ("decode", "prefill")


def speeds(model: Path, subject: TextSubject, phase: Phase, rounds: int) -> dict[str, float]:
    """Return tokens per second by each account, measured in a new process."""
    plan = subject.plan
    words = (str(model), plan.ids, str(plan.prompt_tokens), phase, str(rounds))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.language_counters", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{subject.name}: {phase}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(
    subject: TextSubject, side: Side, phase: Phase, repetitions: int, rounds: int
) -> tuple[list[str], list[str]]:
    """Return the table's row of one phase of one model, and what it misses."""
    found = [speeds(subject.files[side], subject, phase, rounds) for _ in range(repetitions)]
    same, worker = (
        Estimate.of([speed[account] / speed["counters"] for speed in found])
        for account in ("here", "worker")
    )
    counters = statistics.median(speed["counters"] for speed in found)
    row = [subject.name, side, phase, f"{counters:,.0f}", str(same), str(worker)]
    name = f"{subject.name} {side} {phase}"
    return row, [f"{name}: {same}"] if abs(same.value - 1) > LARGEST_DEVIATION else []


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", action="append", help=f"{SHIPPED.name} or a size such as 27M; may be repeated"
    )
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=STAGE_ROUNDS, help="turns of each side")
    arguments = parser.parse_args()
    print_context("llama-cpp-python")
    rows, missed = [], []
    with scratch() as folder:
        for name in arguments.model or [SHIPPED.name, "27M"]:
            subject = make_text_subject(name, folder, blocks=1)
            for side in SIDES:
                for phase in PHASES:
                    row, misses = measure(
                        subject, side, phase, arguments.repetitions, arguments.rounds
                    )
                    rows.append(row)
                    missed += misses
    header = ("model", "side", "phase", "counters tokens/s", "same calls", "worker, in turns")
    print_table(header, rows)
    return finish(missed, f"tokens/s within {LARGEST_DEVIATION:.0%} of llama.cpp's own counters")


if __name__ == "__main__":
    sys.exit(main())
