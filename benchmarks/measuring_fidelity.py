"""Do the latencies that a verdict rests on agree with what the runtimes' own loops measure?

    python -m benchmarks.measuring_fidelity --model digits --model cnn-112 --model cnn-192

Taken in turns: the candidate's median latency by OpenVINO's own ``benchmark_app`` (synchronous, 1
thread, 1 stream, no pinning, float32 hint, inputs set once, the same sample), the baseline's by a
bare loop of ONNX Runtime in a process of its own and, before and after each, both as this package
measures and reports them: in turns, by two worker processes. The target is a ratio of medians
within 3%, judged at the median over the repetitions. ``cold`` is the first call of a turn, which
does not count, against that median: what single calls in turns would have shown.

The machine should be quiet: the two sides of a ratio are some seconds apart.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass
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
from pytest_edgeai.measure.bench import close_all
from pytest_edgeai.measure.latency import run_bursts, summarize, warm_up
from pytest_edgeai.stages import STAGE_ROUNDS

LARGEST_DEVIATION = 0.03
_UNIT_NS = {"us": 1e3, "ms": 1e6, "s": 1e9}


def benchmark_app_ns(subject: Subject, calls: int) -> float:
    """Return the median latency by OpenVINO's tool, whose inputs are set once before the loop."""
    first = {name: path.with_name(f"first-{name}.npy") for name, path in subject.inputs.items()}
    for name, path in first.items():
        np.save(path, np.load(subject.inputs[name], mmap_mode="r")[:1])
    inputs = ",".join(f"{name}:{path}" for name, path in first.items())
    tool = Path(sys.executable).with_name("benchmark_app")
    options = (
        "-d CPU -api sync -hint none -nstreams 1 -nthreads 1 -pin NO -infer_precision f32 "
        "-inference_only true"
    )
    done = subprocess.run(
        [
            *(str(tool), "-m", str(subject.candidate), "-i", inputs, "-niter", str(calls)),
            *options.split(),
        ],
        capture_output=True,
        text=True,
    )
    found = re.search(r"Median:\s+([\d.]+) (us|ms|s)\b", done.stdout)
    if found is None:
        raise SystemExit(f"benchmark_app gave no median:\n{(done.stdout + done.stderr)[-2000:]}")
    return float(found.group(1)) * _UNIT_NS[found.group(2)]


def bare_loop_ns(subject: Subject, calls: int) -> float:
    """Return the median latency of the baseline in a loop of its runtime."""
    loops = Path(__file__).with_name("bare_loops.py")
    sample = next(iter(subject.inputs.values()))
    words = ("time", "onnxruntime", str(subject.model), str(calls), str(sample))
    done = subprocess.run(
        [sys.executable, str(loops), *words], capture_output=True, text=True, check=True
    )
    return float(np.median(json.loads(done.stdout)))


@dataclass(frozen=True)
class Ours:
    """What a report shows of models that are timed in turns.

    Attributes:
        p50_ns: median latency of ``baseline`` and ``candidate``.
        cold_ratio: median of the candidate's first call in a turn against that median.
    """

    p50_ns: dict[str, float]
    cold_ratio: float


def ours_ns(subject: Subject, rounds: int) -> Ours:
    """Measure in two new workers, as the latencies of every report are measured."""
    loaded = [subject.load("onnxruntime"), subject.load("openvino")]
    try:
        measured = run_bursts(loaded, random.Random(), rounds=rounds, time_limit_s=300.0)
    finally:
        close_all(loaded)
    p50_ns = {
        side: summarize(measured, index, cpu_time_is_valid=True, threads=1, batch=1).p50_ns
        for index, side in enumerate(("baseline", "candidate"))
    }
    lead_in = np.reshape(measured.lead_in_wall_ns[1], (len(measured), -1))
    first = float(np.median(lead_in[:, 0])) if lead_in.size else p50_ns["candidate"]
    return Ours(p50_ns, first / p50_ns["candidate"])


def call_times_ns(subject: Subject) -> tuple[float, float]:
    """Return what a call takes, about."""
    times = []
    for framework in ("onnxruntime", "openvino"):
        loaded = subject.load(framework)
        warm_up([loaded])
        times.append(loaded.latency(20).p50_ns)
        loaded.close()
    return times[0], times[1]


def measure(subject: Subject, repetitions: int, seconds: float) -> tuple[list[str], list[str]]:
    """Return the table's row of one model, and what it misses."""
    baseline_ns, candidate_ns = call_times_ns(subject)
    calls = max(50, int(seconds * 1e9 / candidate_ns)), max(50, int(seconds * 1e9 / baseline_ns))
    rounds = STAGE_ROUNDS
    steps = {"candidate": lambda: benchmark_app_ns(subject, calls[0])}
    steps["baseline"] = lambda: bare_loop_ns(subject, calls[1])
    found: dict[str, list[float]] = {"candidate": [], "baseline": []}
    references: dict[str, list[float]] = {"candidate": [], "baseline": []}
    before = ours_ns(subject, rounds)
    cold = [before.cold_ratio]
    for _ in range(repetitions):
        for side in random.sample(sorted(steps), 2):
            reference = steps[side]()
            after = ours_ns(subject, rounds)
            ours = (before.p50_ns[side] * after.p50_ns[side]) ** 0.5
            found[side].append(ours / reference)
            references[side].append(reference)
            cold.append(after.cold_ratio)
            before = after
    ratios = {side: Estimate.of(values) for side, values in found.items()}
    app, loop = (float(np.median(references[side])) / 1e6 for side in ("candidate", "baseline"))
    row = [
        subject.name,
        f"{app:.3f}",
        str(ratios["candidate"]),
        f"{loop:.3f}",
        str(ratios["baseline"]),
        f"{np.median(cold):.2f}",
    ]
    missed = [
        f"{subject.name}: {side} at {ratio}"
        for side, ratio in ratios.items()
        if abs(ratio.value - 1) > LARGEST_DEVIATION
    ]
    return row, missed


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", help="digits or cnn-WIDTH; may be repeated")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each loop, about")
    arguments = parser.parse_args()
    print_context("openvino", "onnxruntime")
    rows, missed = [], []
    with scratch() as folder:
        for name in arguments.model or ["digits", "cnn-112", "cnn-192"]:
            subject = make_subject(name, folder)
            row, misses = measure(subject, arguments.repetitions, arguments.seconds)
            rows.append(row)
            missed += misses
    header = ("model", "benchmark_app ms", "ours / it", "bare loop ms", "ours / it", "cold")
    print_table(header, rows)
    return finish(missed, f"medians within {LARGEST_DEVIATION:.0%} of the runtimes' own loops")


if __name__ == "__main__":
    sys.exit(main())
