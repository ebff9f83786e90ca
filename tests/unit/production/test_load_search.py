"""The whole procedure on simulated servers, whose rates are known; no clock decides anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import MeasurementError, WorkerFailure
from pytest_edgeai.judge.load import judge_load
from pytest_edgeai.judge.load_queue import waits
from pytest_edgeai.load_records import LoadPlan, LoadRun, LoadSamples, Scenario
from pytest_edgeai.measure.load import Driven
from pytest_edgeai.production.load_search import LoadSession
from pytest_edgeai.records import Threshold, Verdict

MS = 1_000_000
AT_LEAST = Threshold(1.0, "at_least")


class Server:
    """Answers in the order of arrival, with calls of ``call_ms`` and noise of a tenth.

    Attributes:
        pause_share: share of the calls that pause for 40 calls of their own accord.
        taken_share: share of the calls that another process interrupts for as long.
        fails_at: calls of this number in a run raise; 0 for none.
        dies: whether its process ends in the Server scenario.
    """

    def __init__(
        self,
        call_ms: float,
        *,
        seed: int,
        pause_share: float = 0.0,
        taken_share: float = 0.0,
        fails_at: int = 0,
        dies: bool = False,
    ) -> None:
        self.streams, self.version = 1, "simulated"
        self.call_ns, self.pause_share, self.taken_share = call_ms * MS, pause_share, taken_share
        self.fails_at, self.dies = fails_at, dies
        self.generator = np.random.default_rng(seed)
        self.scenarios: list[str] = []

    def drive(
        self, scenario: Scenario, settings: Mapping[str, Any], output: Path, *, time_limit_s: float
    ) -> LoadRun:
        self.scenarios.append(scenario)
        if self.dies and scenario == "Server":
            raise WorkerFailure("it exited with 7", framework="f", step="drive")
        count = int(settings["min_query_count"])
        noise = self.generator.lognormal(0.0, 0.1, count)
        own = self.call_ns * noise
        own += (self.generator.random(count) < self.pause_share) * 40 * self.call_ns
        taken = (self.generator.random(count) < self.taken_share) * 40 * self.call_ns
        service = (own + taken).astype(np.int64)
        rate = float(settings.get("server_target_qps", 0.0))
        arrivals = np.random.default_rng(settings.get("schedule_rng_seed", 0))
        gaps = arrivals.exponential(1e9 / rate, count) if rate else service
        scheduled = np.cumsum(gaps).astype(np.int64)
        waited = waits(scheduled, service).astype(np.int64) if rate else np.zeros_like(service)
        failed = np.zeros(count, dtype=np.bool_)
        if self.fails_at:
            failed[self.fails_at :: self.fails_at] = True
        return LoadRun(
            scenario,
            rate,
            float(service.sum()) / 1e9,
            True,
            1,
            np.zeros(count, dtype=np.int64),
            scheduled,
            waited,
            waited + service,
            service,
            own.astype(np.int64),
            failed,
            messages={"ValueError: no": int(failed.sum())} if failed.any() else {},
        )

    def close(self) -> None:
        pass


def plan(**changes: Any) -> LoadPlan:
    fields: dict[str, Any] = {
        "ratio": 1.0,
        "percentile": None,
        "queries_per_second": None,
        "latency_ns": None,
        "first_token_ns": None,
        "interval_ns": None,
        "streams": 1,
        "output_tokens": 0,
        "budget_s": 45.0,
        "has_every_scenario": False,
    }
    return LoadPlan(**{**fields, **changes})


def decided(
    candidate: Driven, baseline: Driven | None, asked: LoadPlan | None = None
) -> tuple[Verdict, LoadSamples]:
    session = LoadSession(
        asked or plan(),
        candidate,
        None if baseline is None else lambda: baseline,
        Path("nowhere"),
        lambda what: None,
    )
    measured = session.measure()
    return judge_load(measured, AT_LEAST), measured


def test_one_model_beside_itself_passes() -> None:
    outcomes = []
    for seed in range(20):
        verdict, _ = decided(Server(5, seed=seed), Server(5, seed=100 + seed))
        outcomes.append(verdict.outcome)
    assert outcomes.count("pass") >= 19
    assert "fail" not in outcomes


def test_a_candidate_twice_as_fast_sustains_twice_the_rate() -> None:
    verdict, measured = decided(Server(2.5, seed=1), Server(5, seed=2))
    assert verdict.outcome == "pass"
    assert verdict.observed is not None
    # The bound is ten calls of the baseline and twenty of the candidate.
    assert 1.9 < verdict.observed < 3.2
    assert verdict.interval is not None
    assert verdict.interval[0] == verdict.observed
    assert measured.bounds.percentile == 99
    assert measured.bounds.latency_ns == pytest.approx(50 * MS, rel=0.1)


@pytest.mark.parametrize("call_ms", [7.5, 10.0])
def test_a_slower_candidate_does_not_pass(call_ms: float) -> None:
    for seed in range(5):
        verdict, _ = decided(Server(call_ms, seed=seed), Server(5, seed=100 + seed))
        assert verdict.outcome == "fail"
        assert verdict.observed is not None
        assert verdict.observed < 1


def test_pauses_of_the_model_fail_and_those_of_the_machine_do_not() -> None:
    pausing, _ = decided(Server(4, seed=1, pause_share=0.03), Server(5, seed=2))
    assert pausing.outcome == "fail"
    taken, _ = decided(Server(4, seed=1, taken_share=0.03), Server(5, seed=2))
    assert taken.outcome == "inconclusive"
    assert "other processes held the machine" in taken.reason


def test_a_busy_machine_decides_nothing_wrongly() -> None:
    outcomes = []
    for seed in range(10):
        candidate = Server(5, seed=seed, taken_share=0.03)
        baseline = Server(5, seed=100 + seed, taken_share=0.03)
        outcomes.append(decided(candidate, baseline)[0].outcome)
    assert "fail" not in outcomes


@pytest.mark.parametrize("call_ms", [0.05, 1, 20, 60])
def test_models_of_every_speed_are_decided(call_ms: float) -> None:
    verdict, measured = decided(Server(call_ms, seed=1), Server(call_ms, seed=2))
    assert verdict.outcome == "pass"
    assert measured.bounds.percentile == {0.05: 99, 1: 99, 20: 95, 60: 90}[call_ms]
    assert max(run.queries for run in measured.candidate) <= 20_000


def test_a_stated_rate_and_bound_need_no_baseline() -> None:
    asked = plan(queries_per_second=20.0, latency_ns=50.0 * MS)
    verdict, measured = decided(Server(5, seed=1), None, asked)
    assert verdict.outcome == "pass"
    assert not measured.baseline
    assert verdict.observed is not None
    assert verdict.observed > 5
    hopeless = plan(queries_per_second=1e6, latency_ns=50.0 * MS)
    verdict, _ = decided(Server(5, seed=1), None, hopeless)
    assert verdict.outcome == "fail"


def test_a_bound_below_one_call_says_so() -> None:
    asked = plan(queries_per_second=20.0, latency_ns=3.0 * MS)
    verdict, _ = decided(Server(5, seed=1), None, asked)
    assert verdict.outcome == "fail"
    assert "a query that waits for none misses the bound already" in verdict.reason


def test_a_run_that_the_budget_does_not_hold_is_named() -> None:
    asked = plan(queries_per_second=4.0, latency_ns=900.0 * MS, percentile=99.0, budget_s=30.0)
    verdict, measured = decided(Server(200, seed=1), None, asked)
    assert verdict.outcome == "inconclusive"
    # 459 queries at 4 per second are the fewest that early stopping takes at p99.
    assert measured.needed_s == pytest.approx(115, rel=0.01)
    assert "one more run takes 115 s, the budget of 30 s" in verdict.reason
    assert "459 queries" in verdict.reason


def test_a_rate_beyond_what_calls_alone_take_needs_no_run() -> None:
    asked = plan(queries_per_second=20.0, latency_ns=900.0 * MS, percentile=99.0, budget_s=30.0)
    verdict, _ = decided(Server(200, seed=1), None, asked)
    assert verdict.outcome == "fail"
    assert re.search(r"calls one after the other answer [45]\.\d\d/s at most", verdict.reason)


def test_a_candidate_that_raises_is_not_driven_further() -> None:
    candidate = Server(5, seed=1, fails_at=50)
    verdict, _ = decided(candidate, Server(5, seed=2))
    assert verdict.outcome == "fail"
    assert "raised (ValueError: no)" in verdict.reason
    assert "Offline" not in candidate.scenarios
    early = Server(5, seed=1, fails_at=5)
    verdict, _ = decided(early, Server(5, seed=2))
    assert verdict.outcome == "fail"
    assert "1 of 8 calls raised" in verdict.reason
    assert early.scenarios == ["SingleStream"]


def test_a_candidate_whose_process_ends_fails_and_a_baseline_is_an_error() -> None:
    verdict, _ = decided(Server(5, seed=1, dies=True), Server(5, seed=2))
    assert verdict.outcome == "fail"
    assert "it exited with 7 (Server)" in verdict.reason
    with pytest.raises(WorkerFailure):
        decided(Server(5, seed=1), Server(5, seed=2, dies=True))
    with pytest.raises(MeasurementError, match="the baseline fails under load: 13 of"):
        decided(Server(5, seed=1), Server(5, seed=2, fails_at=50))


def test_every_scenario_is_driven_where_that_is_asked() -> None:
    candidate = Server(5, seed=1)
    decided(candidate, Server(5, seed=2), plan(has_every_scenario=True))
    assert set(candidate.scenarios) == {"SingleStream", "Server", "Offline", "MultiStream"}
