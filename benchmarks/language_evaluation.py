"""What does scoring a text cost over the bare forward passes of both models?

    python -m benchmarks.language_evaluation --model tiny-llama --model 27M --blocks 4

In turns, in random order: the comparison of a text as the gates make it (two workers score every
block; the reference's log-probabilities go to the other, every figure per token comes back), as the
seconds that its caller waits, and the same blocks read by both models in a bare loop over llama.cpp
with all logits computed (``benchmarks/language_loops.py``, a process of its own). One thread each.
Both have loaded the models and read the text once before the clock starts. Every repetition begins
with new processes, because the same weights compute up to a fifth faster or slower depending on
where they came to lie in memory, and takes the ratio of the fastest of some passes over the text,
which is the one that other jobs disturbed least. The target is a ratio below 1.10 at the median of
the repetitions. Beside it stands the same ratio of CPU seconds, of the three processes that take
part in a comparison against the loop's.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import (
    Estimate,
    finish,
    print_context,
    print_table,
    scratch,
)
from benchmarks.language_subjects import SHIPPED, Side, TextSubject, make_text_subject
from pytest_edgeai.measure.bench import close_all
from pytest_edgeai.measure.language import LoadedLanguageRunnable, compare_text

LARGEST_RATIO = 1.10
SIDES: tuple[Side, ...] = ("baseline", "candidate")


@dataclass(frozen=True)
class Spent:
    """Seconds of wall time and of CPU time; of other processes, the latter is known on Linux."""

    wall_s: float
    cpu_s: float


@contextmanager
def bare_loop(subject: TextSubject) -> Iterator[subprocess.Popen[str]]:
    """Start the loop; a line on its standard input makes it read the text once."""
    loops = Path(__file__).with_name("language_loops.py")
    words = (str(loops), subject.plan.ids, *(str(subject.files[side]) for side in SIDES))
    process = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def bare(process: subprocess.Popen[str]) -> Spent:
    """Read the text once in the bare loop."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return Spent(*json.loads(process.stdout.readline()))


def compared(loaded: Sequence[LoadedLanguageRunnable], exchange: Path) -> Spent:
    """Compare the text once in the workers."""
    pids = [model._worker.pid for model in loaded]
    before = [_cpu_s(pid) for pid in pids]
    own = time.process_time()
    begin = time.perf_counter()
    compare_text(loaded[0], loaded[1], exchange, lambda done: None)
    wall_s, own = time.perf_counter() - begin, time.process_time() - own
    parts = [_cpu_s(pid) - spent for pid, spent in zip(pids, before, strict=True)]
    return Spent(wall_s, own + sum(parts))


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process; proc(5), /proc/[pid]/task/[tid]/schedstat, in ns."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9


def repeat(subject: TextSubject, passes: int, folder: Path) -> dict[str, Spent]:
    """Return the least that each side spent on the text, both in new processes."""
    loaded = [subject.load(side) for side in SIDES]
    spent: dict[str, list[Spent]] = {"ours": [], "bare": []}
    try:
        with bare_loop(subject) as process:
            steps = {
                "ours": lambda: compared(loaded, folder / "exchange"),
                "bare": lambda: bare(process),
            }
            for _ in range(passes + 1):
                for name in random.sample(sorted(steps), 2):
                    spent[name].append(steps[name]())
    finally:
        close_all(loaded)
    return {
        name: Spent(min(x.wall_s for x in taken[1:]), min(x.cpu_s for x in taken[1:]))
        for name, taken in spent.items()
    }


def measure(
    subject: TextSubject, repetitions: int, passes: int, folder: Path
) -> tuple[list[str], list[str]]:
    """Return the table's row of one model, and what it misses."""
    found = [repeat(subject, passes, folder) for _ in range(repetitions)]
    ratio = Estimate.of([pair["ours"].wall_s / pair["bare"].wall_s for pair in found])
    cpu = Estimate.of([pair["ours"].cpu_s / pair["bare"].cpu_s for pair in found])
    blocks = subject.plan.blocks
    each = (statistics.median(x[name].wall_s for x in found) / blocks for name in ("bare", "ours"))
    row = [
        subject.name,
        f"{blocks} of {subject.plan.context_tokens}",
        *(f"{seconds * 1e3:.1f}" for seconds in each),
        str(ratio),
        str(cpu) if sys.platform == "linux" else "–",
    ]
    return row, [f"{subject.name}: {ratio}"] if ratio.value >= LARGEST_RATIO else []


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", action="append", help=f"{SHIPPED.name} or a size such as 27M; may be repeated"
    )
    parser.add_argument("--blocks", type=int, default=4, help="of text")
    parser.add_argument("--passes", type=int, default=6, help="over the text, of each repetition")
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    print_context("llama-cpp-python", "numpy")
    rows, missed = [], []
    with scratch() as folder:
        for name in arguments.model or [SHIPPED.name, "27M"]:
            subject = make_text_subject(name, folder, blocks=arguments.blocks)
            row, misses = measure(subject, arguments.repetitions, arguments.passes, folder)
            rows.append(row)
            missed += misses
    header = ("model", "blocks", "bare ms/block", "ours ms/block", "ours / bare", "CPU time")
    print_table(header, rows)
    return finish(missed, f"less than {LARGEST_RATIO - 1:.0%} over the bare forward passes")


if __name__ == "__main__":
    sys.exit(main())
