"""What does evaluating in a worker cost over a bare loop of the runtime over the same samples?

    python -m benchmarks.evaluation_overhead --model digits --model cnn-64 --samples 2000

In turns, in a new process each: the worker's ``evaluate`` (map the samples, run each, write all
outputs) as the seconds that its caller waits, and a loop that somebody would write for this one
model (``benchmarks/bare_loops.py``): the runtime's Python interface, one sample a call, the outputs
saved at the end. Both have loaded and compiled the model before the clock starts, and both stored
outputs must be equal. The target is a ratio below 1.10 at the median of the repetitions.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common import (
    Estimate,
    Subject,
    finish,
    make_subject,
    print_context,
    print_table,
    scratch,
)

LARGEST_RATIO = 1.10


def bare_s(subject: Subject, framework: str, output: Path) -> float:
    """Return the seconds of the bare loop."""
    loops = Path(__file__).with_name("bare_loops.py")
    model = subject.model if framework == "onnxruntime" else subject.candidate
    words = ("evaluate", framework, str(model), str(output), str(*subject.inputs.values()))
    done = subprocess.run(
        [sys.executable, str(loops), *words], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def worker_s(subject: Subject, framework: str, folder: Path) -> tuple[float, Path]:
    """Return the seconds of the worker's evaluation, and where its first output lies."""
    loaded = subject.load(framework)
    try:
        begin = time.perf_counter()
        loaded.evaluate(folder, lambda what, fraction: None)
        return time.perf_counter() - begin, folder / "0.npy"
    finally:
        loaded.close()


def measure(subject: Subject, framework: str, repetitions: int, folder: Path) -> Estimate:
    """Return the ratio of the worker's seconds to the loop's.

    Raises:
        SystemExit: the outputs differ.
    """
    ratios = []
    for repetition in range(repetitions):
        bare = folder / f"{framework}.npy"
        seconds = {}
        for what in random.sample(("worker", "bare"), 2):
            if what == "bare":
                seconds[what] = bare_s(subject, framework, bare)
            else:
                output = folder / f"{subject.name}-{framework}-{repetition}"
                seconds[what], ours = worker_s(subject, framework, output)
        if not np.array_equal(np.load(bare), np.load(ours)):
            raise SystemExit(f"{subject.name}: the outputs of {framework} differ")
        ratios.append(seconds["worker"] / seconds["bare"])
    return Estimate.of(ratios)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", help="digits or cnn-WIDTH; may be repeated")
    parser.add_argument("--samples", type=int, default=2000, help="of a cnn")
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    print_context("openvino", "onnxruntime")
    rows, missed = [], []
    with scratch() as folder:
        for name in arguments.model or ["digits", "cnn-64"]:
            subject = make_subject(name, folder, count=arguments.samples)
            for framework in ("onnxruntime", "openvino"):
                ratio = measure(subject, framework, arguments.repetitions, folder)
                rows.append([name, str(subject.count), framework, str(ratio)])
                if ratio.value >= LARGEST_RATIO:
                    missed.append(f"{name} in {framework}: {ratio}")
    print_table(("model", "samples", "runtime", "worker / bare loop"), rows)
    return finish(missed, f"less than {LARGEST_RATIO - 1:.0%} over a bare loop")


if __name__ == "__main__":
    sys.exit(main())
