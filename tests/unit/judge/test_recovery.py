"""The gate ``recovery``, on failures with a known outcome."""

from __future__ import annotations

import json
import math

import pytest

from pytest_edgeai.judge.recovery import judge_recovery, settled_recovery
from pytest_edgeai.production_records import RecoverySamples, RecoveryScenario
from pytest_edgeai.records import Threshold, to_json

LIMIT = Threshold(30.0, "at_most")
KILLED = RecoveryScenario("killed under load", (1.2,), answers=40)
DISK = RecoveryScenario("out of disk", (0.1,), answers=3)


def samples(*scenarios: RecoveryScenario, repeatability: float = 0.0) -> RecoverySamples:
    return RecoverySamples(scenarios, compared=4, repeats=4, repeatability=repeatability)


def test_the_longest_recovery_is_observed() -> None:
    verdict = judge_recovery(samples(DISK, KILLED), LIMIT)
    assert (verdict.outcome, verdict.observed, verdict.samples) == ("pass", 1.2, 2)
    assert "43 answers, none wrong (bit for bit)" in verdict.reason
    assert (
        "within their repeatability"
        in judge_recovery(samples(KILLED, repeatability=1e-6), LIMIT).reason
    )


def test_a_wrong_answer_fails_whatever_else_there_is() -> None:
    wrong = RecoveryScenario("cut in half", wrong=("loaded from it it answered otherwise",))
    late = RecoveryScenario("killed under load", (99.0, 99.0))
    verdict = judge_recovery(samples(late, wrong), LIMIT)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("a wrong answer was served; cut in half: loaded")


def test_a_fault_fails() -> None:
    hung = RecoveryScenario("killed under load", (1.0,), faults=("the request in flight hung",))
    verdict = judge_recovery(samples(hung, DISK), LIMIT)
    assert (verdict.outcome, "request in flight hung" in verdict.reason) == ("fail", True)


@pytest.mark.parametrize(
    ("times", "outcome"),
    [
        ((29.9,), "pass"),
        ((31.0, 2.0), "pass"),
        ((31.0, 32.0), "fail"),
        ((math.inf, math.inf), "fail"),
        ((math.inf, 1.0), "pass"),
        ((1.0, 2.0, 40.0, 1.0, 1.0), "pass"),
        ((1.0, 45.0, 40.0, 1.0, 1.0), "fail"),
    ],
)
def test_a_late_recovery_has_to_be_confirmed(times: tuple[float, ...], outcome: str) -> None:
    verdict = judge_recovery(samples(RecoveryScenario("killed under load", times)), LIMIT)
    assert verdict.outcome == outcome, verdict.reason
    json.dumps(to_json(verdict), allow_nan=False)


def test_the_second_longest_of_several_counts() -> None:
    assert settled_recovery(RecoveryScenario("x", (5.0,))) == 5.0
    assert settled_recovery(RecoveryScenario("x", (5.0, 1.0, 3.0))) == 3.0


def test_what_could_not_be_staged_is_not_certified() -> None:
    missing = RecoveryScenario("out of disk", not_staged="this system has no limit")
    verdict = judge_recovery(samples(KILLED, missing), LIMIT)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("not certified: could not be staged here: out of disk (this")


def test_a_failure_counts_although_another_could_not_be_staged() -> None:
    missing = RecoveryScenario("out of disk", not_staged="this system has no limit")
    late = RecoveryScenario("killed under load", (31.0, 31.0))
    assert judge_recovery(samples(late, missing), LIMIT).outcome == "fail"


def test_answers_without_repeatability_cannot_be_compared() -> None:
    verdict = judge_recovery(samples(repeatability=0.5), LIMIT)
    assert verdict.outcome == "inconclusive"
    assert "differ by 50% of their range" in verdict.reason


def test_nothing_staged_is_no_pass() -> None:
    assert judge_recovery(samples(), LIMIT).outcome == "inconclusive"


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_threshold_that_is_none(value: float) -> None:
    assert judge_recovery(samples(KILLED), Threshold(value, "at_most")).outcome == "error"


def test_another_relation_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at_most"):
        judge_recovery(samples(KILLED), Threshold(1.0, "at_least"))
