"""Does LoadGen drive a model as fast as a plain loop does?

Target: at least 95% of the rate of a bare loop over the same calls, in the Offline scenario, for
models of 0.1, 1, 5 and 20 ms. Loop and LoadGen take turns in one process, in changing order; the
figure is the median of the ratios of a pair, with its order-statistics interval (95%). The models
are planted: a known number of matrix products per call.

Run ``python -m benchmarks.load_rate`` from the root of the checkout, with the extra ``load``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Estimate, print_context, print_table, scratch
from benchmarks.common import finish as finish_with
from pytest_edgeai.selfcheck.planted import FEATURES, LoadedPlanted, PlantedModel
from pytest_edgeai.worker.load import Run, finish, generator, make_settings

TARGET = 0.95
CALLS_MS = (0.1, 1.0, 5.0, 20.0)
TRIAL_REPETITIONS = 200
SAMPLES = 16


def repetitions(call_ms: float) -> int:
    """Return the matrix products of a call of about ``call_ms`` on this machine."""
    model = LoadedPlanted(PlantedModel(repetitions=TRIAL_REPETITIONS))
    call = model.bind({})
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    one_ms = float(np.quantile(times, 0.1)) * 1e3 / TRIAL_REPETITIONS
    return max(1, round(call_ms / one_ms))


def measure(call_ms: float, pairs: int, seconds: float, folder: Path) -> Estimate:
    """Return LoadGen's rate / that of the loop over pairs of turns."""
    loadgen = generator()
    assert loadgen is not None
    model = LoadedPlanted(PlantedModel(repetitions=repetitions(call_ms)))
    feeds = [{"x": np.zeros((1, FEATURES), np.float32)} for _ in range(SAMPLES)]
    run = model.run
    calls = max(24, int(seconds * 1e3 / call_ms))

    def call(index: int) -> object:
        return run(feeds[index])

    def loop() -> float:
        begin = time.perf_counter()
        for position in range(calls):
            call(position % SAMPLES)
        return (time.perf_counter() - begin) / calls

    def driven(turn: int) -> float:
        output = folder / f"{call_ms:g}-{turn}"
        output.mkdir()
        wanted = {
            "min_query_count": calls,
            "min_duration_ms": 0,
            "offline_expected_qps": 1e3 / call_ms,
        }
        settings = make_settings(loadgen, "Offline", wanted)
        driver = Run(loadgen, [call], SAMPLES)
        seconds = driver.drive(settings, output, trace=False)
        answer = finish(output, driver.recorders, seconds, {})
        return 1 / float(answer["summary"]["Samples per second"])

    loop()
    ratios = []
    for turn in range(pairs):
        if turn % 2:
            other = driven(turn)
            ratios.append(loop() / other)
        else:
            bare = loop()
            ratios.append(bare / driven(turn))
    return Estimate.of(ratios)


def main() -> int:
    """Measure, print the table, and return 1 where the target is missed."""
    parser = argparse.ArgumentParser(description="LoadGen's rate against a bare loop's.")
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one turn")
    chosen = parser.parse_args()
    if generator() is None:
        print("LoadGen is not installed; run: pip install mlcommons-loadgen")
        return 1
    print_context("mlcommons-loadgen")
    rows, missed = [], []
    with scratch() as folder:
        for call_ms in CALLS_MS:
            ratio = measure(call_ms, chosen.pairs, chosen.seconds, folder)
            rows.append([f"{call_ms:g} ms", str(ratio)])
            if ratio.value < TARGET:
                missed.append(f"{call_ms:g} ms: {ratio}")
    print_table(["model", "rate by LoadGen / by a loop"], rows)
    return finish_with(missed, f"at least {TARGET:.2f} of the rate of a bare loop")


if __name__ == "__main__":
    sys.exit(main())
