"""What does it cost a model to run without network, behind its guards?

    python -m benchmarks.isolation_cost --repetitions 61

Two workers of the same model, one of them in a network namespace of its own and behind the filter
of system calls, take turns on one core; each turn's order is drawn at random. Shown is the median
over the turns of the ratio of the first deciles of their calls, with its interval. Models are
planted ones with calls of 0.3, 1 and 5 ms, which make no system call, and a small network in ONNX
Runtime and in OpenVINO, on one thread: they wait for nothing, so a filter costs them CPU time or
nothing at all, and that decides, as on a busy machine wall time is the others'. The last two
columns are the same of two workers without guards: what this machine cannot tell apart. Target:
less than 2% more.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import (
    LIMIT_S,
    Estimate,
    finish,
    make_subject,
    print_context,
    print_table,
    scratch,
)
from benchmarks.planted_pairs import planted, repetition_ns
from pytest_edgeai.measure.bench import Runnable
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.workload import Workshop
from pytest_edgeai.worker.host import Worker, WorkerSpec

CALLS_MS = (0.3, 1.0, 5.0)
CLOCKS = ("cpu_ns", "wall_ns")
LARGEST_RATIO = 1.02
WARM_CALLS = 20


@dataclass(frozen=True)
class Case:
    """A model that is run with and without guards.

    Attributes:
        name: what the table calls it.
        runnable: how it is run.
        inputs: input name to ``.npy`` file.
        core: the core that both workers are put on.
    """

    name: str
    runnable: Runnable
    inputs: Mapping[str, str]
    core: int


@contextmanager
def started(case: Case, log: Path | None) -> Iterator[Worker]:
    """Start a worker with the model loaded and its first sample bound; ``log`` cuts it off."""
    spec = WorkerSpec(case.runnable.framework, case.runnable.interpreter, network_log=log)
    with Worker.start(spec, time_limit_s=LIMIT_S) as worker:
        path, runtime = str(case.runnable.path), case.runnable.runtime
        worker.request("load", time_limit_s=LIMIT_S, handle="m", path=path, runtime=runtime)
        worker.request(
            "prepare", time_limit_s=LIMIT_S, handle="m", arrays=case.inputs, first=0, batch=1
        )
        worker.request("run_on", time_limit_s=LIMIT_S, core=case.core)
        call_ns(worker, WARM_CALLS)
        yield worker


def call_ns(worker: Worker, calls: int) -> dict[str, float]:
    """Return the first decile of the times of ``calls`` calls, which others hardly disturb."""
    answer = worker.request("time_calls", time_limit_s=LIMIT_S, handle="m", calls=calls)
    return {clock: float(np.quantile(answer[clock], 0.1)) for clock in CLOCKS}


def compare(
    case: Case, repetitions: int, seconds: float, logs: tuple[Path | None, ...]
) -> dict[str, Estimate]:
    """Return, by clock, the time of a worker with the first log over one with the second."""
    with started(case, logs[0]) as first, started(case, logs[1]) as second:
        pair = (first, second)
        calls = max(10, int(seconds * 1e9 / call_ns(second, WARM_CALLS)["cpu_ns"]))
        ratios: dict[str, list[float]] = {clock: [] for clock in CLOCKS}
        for _ in range(repetitions):
            took = {index: call_ns(pair[index], calls) for index in random.sample([0, 1], 2)}
            for clock in CLOCKS:
                ratios[clock].append(took[0][clock] / took[1][clock])
    return {clock: Estimate.of(values) for clock, values in ratios.items()}


def cases(folder: Path) -> Iterator[Case]:
    """Yield every model that is run."""
    workshop = Workshop(folder)
    one_ns = repetition_ns(workshop)
    arrays = workshop.evaluation().samples.arrays
    for call_ms in CALLS_MS:
        runnable = workshop.runnable(planted(call_ms * 1e6, one_ns))
        yield Case(f"planted, {call_ms:g} ms", runnable, arrays, 0)
    subject = make_subject("cnn-32", folder, optimized=False)
    inputs = {name: str(path) for name, path in subject.inputs.items()}
    for name in ("onnxruntime", "openvino"):
        runnable = Runnable(
            FRAMEWORKS[name], Path(sys.executable), subject.model, RuntimeOptions(threads=1)
        )
        yield Case(name, runnable, inputs, 0)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=61, help="turns of each model")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each half of a turn, about")
    arguments = parser.parse_args()
    print_context("onnxruntime", "openvino")
    rows, missed = [], []
    with scratch() as folder:
        log = folder / "network.jsonl"
        for case in cases(folder):
            cost, control = (
                compare(case, arguments.repetitions, arguments.seconds, logs)
                for logs in ((log, None), (None, None))
            )
            cells = [str(each[clock]) for each in (cost, control) for clock in CLOCKS]
            rows.append([case.name, *cells])
            decides = cost["cpu_ns"]
            if (decides.high or decides.value) >= LARGEST_RATIO:
                missed.append(f"{case.name}: {decides}")
        guards = log.read_text("utf-8").splitlines()[0]
    header = ("model", "CPU time, guarded / not", "wall time", "CPU time, neither", "wall time")
    print_table(header, rows)
    print(guards)
    return finish(missed, f"the guards add less than {LARGEST_RATIO - 1:.0%}, interval included")


if __name__ == "__main__":
    sys.exit(main())
