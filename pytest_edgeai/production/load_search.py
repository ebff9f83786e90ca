"""Drive a candidate, and its baseline beside it, until the rate that is asked of it is decided."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import MeasurementError, WorkerFailure
from pytest_edgeai.judge.load import (
    LOOKS,
    failed_calls,
    rate_decision,
)
from pytest_edgeai.judge.load_queue import CONFIDENCE, predicted_rate
from pytest_edgeai.judge.load_text import per_second
from pytest_edgeai.judge.statistics import quantile_samples_needed
from pytest_edgeai.load_records import (
    LoadBounds,
    LoadPlan,
    LoadRun,
    LoadSamples,
    Scenario,
    Side,
)
from pytest_edgeai.measure.load import Driven
from pytest_edgeai.production.load_bounds import (
    LEAST_TIMEOUT_NS,
    affordable_percentile,
    make_bounds,
)
from pytest_edgeai.production.load_rates import Search

BASELINE_SHARE = 0.9
"""Share of the baseline's sustained rate that is expected where nobody states a rate: two searches
of one model differ by their resolution."""

PLENTY = 2.0
"""Times the required rate beyond which the profile ``ci`` searches no further."""

LEAST_RUN_S = 1.0
RUN_BOUNDS = 5.0
"""Bounds that a run lasts at least: the queue of an overloaded server takes its time to grow."""

MOST_QUERIES = 20_000
WARM_QUERIES = 8
LEAST_ALONE = 12
SINGLE_STREAM_SHARE = 0.08
EXTRA_SHARE = 0.06
MULTI_STREAM_SAMPLES = 4


class LoadSession:
    """One measurement: its clock, its models and its runs."""

    def __init__(
        self,
        plan: LoadPlan,
        candidate: Driven,
        baseline: Callable[[], Driven] | None,
        output: Path,
        progress: Callable[[str], None],
    ) -> None:
        """Prepare a measurement.

        Args:
            plan: what is asked.
            candidate: what is judged.
            baseline: makes the model beside it; ``None`` where nothing is asked of it.
            output: folder of the runs' logs and arrays.
            progress: told what is being done.
        """
        self._plan = plan
        self._output = output
        self._progress = progress
        self._candidate = Search(candidate)
        self._baseline = Search(baseline()) if baseline is not None else None
        self._paired: dict[int, int] = {}
        self._spent_s = 0.0
        self._needed_s = 0.0
        self._hang = ""
        self._seed = 0
        self._bounds = LoadBounds(99.0, None, None, None, math.inf, "")

    def measure(self) -> LoadSamples:
        """Drive everything and return it.

        Raises:
            EdgeAIError: the baseline failed, or LoadGen could not run.
        """
        expected: float | None = self._plan.queries_per_second
        source = "stated"
        try:
            if self._open():
                expected, source = self._expectation()
                self._decide(expected)
                self._complete(expected)
        except _CandidateFailed as failure:
            self._hang = self._hang or failure.what
        return LoadSamples(
            plan=self._plan,
            bounds=self._bounds,
            expected_per_second=expected,
            expected_source=source,
            baseline=tuple(self._baseline.runs) if self._baseline else (),
            candidate=tuple(self._candidate.runs),
            paired=dict(self._paired),
            hang=self._hang,
            needed_s=self._needed_s,
            spent_s=self._spent_s,
            version=self._candidate.driven.version,
        )

    def _open(self) -> bool:
        """Time calls alone; set percentile, bounds and predictions. False where calls fail."""
        sides = [side for side in (self._baseline, self._candidate) if side is not None]
        for side in sides:
            run = self._single_stream(side, WARM_QUERIES, 10**6)
            if failed_calls([run], self._bounds):
                return False  # only the candidate's: the baseline's is an error
            side.mean_ns = float(run.service_ns[len(run.service_ns) // 2 :].mean())
            side.runs.clear()
        percentile = self._plan.percentile or affordable_percentile(
            [side.mean_ns / side.driven.streams / 1e9 for side in sides], self._plan.budget_s
        )
        self._bounds = replace(self._bounds, percentile=percentile)
        needed = quantile_samples_needed(percentile / 100, CONFIDENCE, over=1)
        for side in sides:
            fitting = SINGLE_STREAM_SHARE * self._plan.budget_s * 1e9 / side.mean_ns
            self._single_stream(side, int(min(needed, max(fitting, LEAST_ALONE))), side.mean_ns)
        reference = self._baseline.runs[0] if self._baseline is not None else None
        self._bounds = make_bounds(self._plan, percentile, reference)
        for side in sides:
            alone = side.runs[0]
            side.mean_ns = float(alone.service_ns.mean())
            lanes = side.driven.streams if self._plan.output_tokens else 1
            side.predicted = predicted_rate(
                alone, self._bounds, lanes=lanes, servers=side.driven.streams // lanes
            )
        return not failed_calls(self._candidate.runs, self._bounds)

    def _expectation(self) -> tuple[float | None, str]:
        """Return the expected rate; where none is stated, search the one the baseline sustains."""
        if self._plan.queries_per_second is not None:
            return self._plan.queries_per_second, "stated"
        baseline = self._baseline
        assert baseline is not None
        for attempt in range(LOOKS):
            if baseline.is_done or (baseline.low and attempt > 1) or not baseline.predicted:
                break
            if self._server(baseline, baseline.next_rate()) is None:
                break
            if not self._candidate.low and self._candidate.predicted:
                self._server(self._candidate, self._candidate.next_rate())
                if failed_calls(self._candidate.runs, self._bounds):
                    break
        if not baseline.low:
            return None, "the baseline sustained no rate that was tried"
        rate = per_second(baseline.low)
        share = f"{100 * BASELINE_SHARE:.0f}% of the {rate} that the baseline sustains"
        return BASELINE_SHARE * baseline.low, share

    def _decide(self, expected: float | None) -> None:
        """Drive the candidate at the required rate until that is decided."""
        if expected is None:
            return
        required = self._plan.ratio * expected
        candidate = self._candidate
        for look in range(LOOKS):
            runs, paired = self._deciding(required)
            if rate_decision(runs, self._bounds, required, paired) != "undecided":
                return
            if failed_calls(candidate.runs, self._bounds):
                return
            # A higher rate proves a lower one, and takes less time.
            ahead = look == 0 and not candidate.low and math.isinf(candidate.high)
            rate = max(required, 0.8 * candidate.next_rate()) if ahead else required
            seed = self._seed
            if self._server(candidate, rate) is None:
                return
            if self._baseline is not None and self._plan.is_relative and rate == required:
                self._seed = seed
                if self._server(self._baseline, expected, searching=False) is not None:
                    last = len(self._baseline.runs) - 1
                    self._paired[len(candidate.runs) - 1] = last

    def _deciding(self, required: float) -> tuple[list[LoadRun], list[LoadRun]]:
        runs = [
            run
            for run in self._candidate.runs
            if run.scenario == "Server" and run.target_per_second >= required * (1 - 1e-9)
        ]
        baseline = self._baseline.runs if self._baseline is not None else []
        return runs, [baseline[index] for index in self._paired.values()]

    def _complete(self, expected: float | None) -> None:
        """Use what is left of the budget: the other scenarios, then a closer search."""
        plenty = math.inf
        if expected is not None and not self._plan.has_every_scenario:
            plenty = PLENTY * self._plan.ratio * expected
        if failed_calls(self._candidate.runs, self._bounds):
            return
        for side in (self._candidate, self._baseline):
            if side is not None:
                self._offline(side)
        self._multi_stream(self._candidate)
        candidate = self._candidate
        for _ in range(LOOKS):
            if candidate.is_done or not candidate.predicted or candidate.low >= plenty:
                return
            if self._server(candidate, candidate.next_rate()) is None:
                return

    def _single_stream(self, side: Search, queries: int, expected_ns: float) -> LoadRun:
        return self._drive(
            side,
            "SingleStream",
            {
                "min_query_count": queries,
                "min_duration_ms": 0,
                "single_stream_expected_latency_ns": max(1.0, expected_ns),
                "single_stream_target_latency_percentile": self._bounds.quantile,
            },
            queries * expected_ns / 1e9,
        )

    def _server(self, side: Search, rate: float, *, searching: bool = True) -> LoadRun | None:
        """Run the Server scenario; ``None`` where the budget does not hold it."""
        queries = quantile_samples_needed(self._bounds.quantile, CONFIDENCE, over=1)
        needed = quantile_samples_needed(self._bounds.quantile, CONFIDENCE)
        for count in (queries, needed):
            seconds = count * max(1 / rate, side.mean_ns / 1e9 / side.driven.streams)
            if self._fits(seconds):
                break
        else:
            self._needed_s = self._needed_s or seconds
            return None
        capacity = side.driven.streams * 1e9 / side.mean_ns
        bound_s = (self._bounds.latency_ns or self._bounds.first_token_ns or 0.0) / 1e9
        longer_s = max(LEAST_RUN_S, min(RUN_BOUNDS * bound_s, self._plan.budget_s / 8))
        longer = int(min(longer_s * min(rate, capacity), MOST_QUERIES))
        if longer > count and self._fits(longer_s):
            count, seconds = longer, max(seconds, longer_s)
        name = "baseline" if side is self._baseline else "candidate"
        self._progress(f"LoadGen: {count:,} queries at {per_second(rate)} on the {name}")
        settings = {
            "min_query_count": count,
            "min_duration_ms": 0,
            "server_target_qps": rate,
            "server_target_latency_ns": int(self._bounds.latency_ns or self._bounds.timeout_ns),
            "server_target_latency_percentile": self._bounds.quantile,
            "schedule_rng_seed": self._seed,
            "sample_index_rng_seed": self._seed,
        }
        if self._plan.output_tokens:
            settings["ttft_latency"] = int(self._bounds.first_token_ns or self._bounds.timeout_ns)
            settings["tpot_latency"] = int(self._bounds.interval_ns or self._bounds.timeout_ns)
        self._seed += 1
        run = self._drive(side, "Server", settings, seconds)
        if searching:
            side.note(run, self._bounds)
        return run

    def _offline(self, side: Search) -> None:
        capacity = side.driven.streams * 1e9 / side.mean_ns
        samples = max(24, int(capacity * min(LEAST_RUN_S, EXTRA_SHARE * self._plan.budget_s)))
        if self._fits(samples / capacity):
            self._drive(
                side,
                "Offline",
                {
                    "min_query_count": min(samples, MOST_QUERIES),
                    "min_duration_ms": 0,
                    "offline_expected_qps": capacity,
                },
                samples / capacity,
            )

    def _multi_stream(self, side: Search) -> None:
        if self._plan.output_tokens:
            return
        queries = quantile_samples_needed(self._bounds.quantile, CONFIDENCE, over=1)
        query_ns = MULTI_STREAM_SAMPLES * side.mean_ns
        seconds = queries * query_ns / 1e9
        if not self._plan.has_every_scenario and (
            seconds > EXTRA_SHARE * self._plan.budget_s or not self._fits(seconds)
        ):
            return
        self._drive(
            side,
            "MultiStream",
            {
                "min_query_count": queries,
                "min_duration_ms": 0,
                "multi_stream_samples_per_query": MULTI_STREAM_SAMPLES,
                "multi_stream_expected_latency_ns": query_ns,
                "multi_stream_target_latency_percentile": self._bounds.quantile,
            },
            seconds,
        )

    def _fits(self, seconds: float) -> bool:
        return self._spent_s + seconds <= self._plan.budget_s

    def _drive(
        self, side: Search, scenario: Scenario, settings: Mapping[str, Any], seconds: float
    ) -> LoadRun:
        name: Side = "baseline" if side is self._baseline else "candidate"
        output = self._output / f"{len(side.runs):02d}-{name}-{scenario}"
        patience_ns = max(self._bounds.timeout_ns, LEAST_TIMEOUT_NS)
        if math.isinf(patience_ns):
            patience_ns = 6 * LEAST_TIMEOUT_NS
        begin = time.monotonic()
        try:
            run = side.driven.drive(
                scenario, settings, output, time_limit_s=5 * seconds + 2 * patience_ns / 1e9
            )
        except WorkerFailure as failure:
            if name == "baseline":
                raise
            raise _CandidateFailed(f"{failure.what} ({scenario})") from failure
        finally:
            self._spent_s += time.monotonic() - begin
        if name == "baseline" and (faults := failed_calls([run], self._bounds)):
            raise MeasurementError(f"the baseline fails under load: {faults}")
        side.runs.append(run)
        return run


class _CandidateFailed(Exception):
    """The candidate's worker did not survive a run."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
