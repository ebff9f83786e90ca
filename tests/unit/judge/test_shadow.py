from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.shadow import judge_shadow, shadow_decided
from pytest_edgeai.production_records import ShadowReplay, TrafficWindow
from pytest_edgeai.records import Threshold, Verdict

LIMIT = Threshold(0.95, "at_least")


def replay(agreeing: int, requests: int, recorded: int = 0, **changes: Any) -> ShadowReplay:
    values = np.repeat([1.0, 0.0], [agreeing, requests - agreeing])
    return ShadowReplay(values, recorded or requests, 0, "the same class", **changes)


def judged(measured: ShadowReplay, threshold: Threshold = LIMIT) -> Verdict:
    return judge_shadow(measured, threshold, metric=None)


@pytest.mark.parametrize(
    ("agreeing", "outcome"), [(500, "pass"), (490, "pass"), (475, "inconclusive"), (450, "fail")]
)
def test_it_decides_by_the_agreement(agreeing: int, outcome: str) -> None:
    verdict = judged(replay(agreeing, 500))
    assert verdict.outcome == outcome
    assert verdict.observed == agreeing / 500
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert (low > 0.95, high < 0.95) == (outcome == "pass", outcome == "fail")
    assert verdict.details["error_rate"] == 0.05
    assert shadow_decided(replay(agreeing, 500).agreement, LIMIT) == (outcome != "inconclusive")


def test_few_requests_ask_for_more_traffic_and_a_short_time_for_more_time() -> None:
    few = judged(replay(40, 40))
    assert few.outcome == "inconclusive"
    assert "more would decide" in few.reason
    assert "record more traffic" in few.advice
    cut = judged(replay(40, 40, recorded=100_000))
    assert "--edge-profile=release" in cut.advice


def test_a_limit_of_one_takes_every_request() -> None:
    every = Threshold(1.0, "at_least")
    assert judged(replay(50, 50), every).outcome == "pass"
    assert judged(replay(50, 50, recorded=60), every).outcome == "inconclusive"
    assert judged(replay(50, 50, recorded=60), every).details["requests_needed"] == 10
    assert judged(replay(49, 50), every).outcome == "fail"
    assert not shadow_decided(np.ones(50), every)


def test_a_limit_of_zero_and_no_limit_decide_nothing() -> None:
    assert judged(replay(0, 50), Threshold(0.0, "at_least")).outcome == "pass"
    assert judged(replay(0, 50), Threshold(None, "at_least")).outcome == "not_applicable"


def test_no_request_is_an_error() -> None:
    assert judged(replay(0, 0)).outcome == "error"


def test_an_hour_that_is_clearly_worse_is_named() -> None:
    hours = (TrafficWindow(0, 3600, 900, 1.0), TrafficWindow(3600, 7200, 100, 0.7))
    verdict = judged(replay(970, 1000, windows=hours))
    assert verdict.outcome == "pass"
    assert "between 3,600 s and 7,200 s" in verdict.reason
    chance = (TrafficWindow(0, 3600, 900, 1.0), TrafficWindow(3600, 7200, 20, 0.9))
    assert "between" not in judged(replay(990, 1000, windows=chance)).reason


def test_what_weakens_it_is_said() -> None:
    verdict = judged(replay(500, 500, left_out=7, repeated=400, seconds=(0.002, 0.001)))
    for words in ("7 requests left out", "400 of 500 repeat", "takes 1 ms", "baseline 2 ms"):
        assert words in verdict.reason
    assert "repeat" not in judged(replay(500, 500, repeated=40)).reason
