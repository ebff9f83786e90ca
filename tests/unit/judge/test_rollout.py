from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_edgeai.judge.rollout import judge_rollout, looks, next_action, old_latency
from pytest_edgeai.records import Threshold
from pytest_edgeai.rollout_records import RolloutPolicy, RolloutRun, RolloutTraffic

POLICY = RolloutPolicy()
LIMIT = Threshold(0.0, "at_most")


def traffic(
    old: int, new: int, *, stage: int = 1, failed: int = 0, slow: int = 0, lost: int = 0
) -> RolloutTraffic:
    """Old requests of 10 ms, then new ones of 5 ms, the last of them failed or slow."""
    count = old + new
    is_new = np.arange(count) >= old
    seconds = np.where(is_new, 0.005, 0.010)
    if slow:
        seconds[-slow:] = 0.1
    return RolloutTraffic(
        np.where(is_new, stage, 0).astype(np.int64),
        is_new,
        np.arange(count) >= count - failed,
        np.arange(count) >= count - lost,
        seconds,
    )


def test_the_old_version_is_known_before_the_first_stage() -> None:
    assert next_action(traffic(0, 0), POLICY)[0] == "stay"
    assert next_action(traffic(59, 0), POLICY)[0] == "stay"
    assert next_action(traffic(60, 0), POLICY)[0] == "advance"


def test_a_stage_takes_its_requests_and_the_last_one_completes() -> None:
    assert next_action(traffic(60, 20), POLICY)[0] == "stay"
    assert next_action(traffic(60, 30), POLICY)[0] == "advance"
    last = len(POLICY.shares)
    assert next_action(traffic(60, 30, stage=last), POLICY)[0] == "complete"


@pytest.mark.parametrize(("failed", "action"), [(0, "stay"), (1, "stay"), (10, "roll_back")])
def test_failed_requests_go_back(failed: int, action: str) -> None:
    found, reason = next_action(traffic(60, 10, failed=failed), POLICY)
    assert found == action
    assert (reason == "10 of the last 10 requests failed") == (action == "roll_back")


@pytest.mark.parametrize(("slow", "action"), [(0, "stay"), (2, "stay"), (10, "roll_back")])
def test_slow_requests_go_back(slow: int, action: str) -> None:
    found, reason = next_action(traffic(60, 10, slow=slow), POLICY)
    assert found == action
    assert ("took more than 20 ms" in reason) == (action == "roll_back")


def test_a_fault_that_begins_late_is_seen_in_the_last_window() -> None:
    policy = replace(POLICY, stage_requests=1000)
    assert next_action(traffic(60, 500, failed=10), policy)[0] == "roll_back"


def test_without_an_answer_of_the_old_version_nothing_is_slow() -> None:
    assert old_latency(traffic(0, 5)) == float("inf")


def test_a_version_within_both_shares_is_rarely_rolled_back() -> None:
    """The chance of a false alarm is that of the policy, at the accepted shares themselves."""
    policy = replace(POLICY, false_alarm=0.05)
    generator = np.random.default_rng(3)
    trials = 600
    back = 0
    for _ in range(trials):
        failed = generator.random(30) < policy.error_ratio
        slow = generator.random(30) < policy.slow_ratio
        for count in (10, 20, 30):
            each = traffic(60, count)
            each.failed[60:] = failed[:count]
            each.seconds[60:] = np.where(slow[:count], 0.1, 0.005)
            if next_action(each, policy)[0] == "roll_back":
                back += 1
                break
    assert looks(policy) == 48
    assert back / trials <= policy.false_alarm


def run(name: str, fault: str, end: str, content: RolloutTraffic) -> RolloutRun:
    back_s = 0.5 if end == "rolled_back" and fault else None
    return RolloutRun(name, fault, end, "so it went", content, back_s)  # type: ignore[arg-type]


GOOD = run("ramp", "", "completed", traffic(60, 30))
BACK = run("killed", "its server was killed", "rolled_back", traffic(60, 10, failed=10))


def test_a_candidate_that_arrives_and_faults_that_go_back_pass() -> None:
    verdict = judge_rollout((GOOD, BACK), LIMIT, POLICY)
    assert (verdict.outcome, verdict.observed) == ("pass", 0)
    assert "1 planted faults were rolled back, in at most 0.5 s" in verdict.reason


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (run("ramp", "", "rolled_back", traffic(60, 10, slow=10)), "the candidate was rolled back"),
        (run("slowed", "it is slow", "completed", traffic(60, 30)), "went on to the end although"),
        (run("ramp", "", "completed", traffic(60, 30, lost=2)), "2 requests got no answer"),
        (
            run("killed", "it is dead", "rolled_back", traffic(60, 10, stage=-1)),
            "10 requests after the rollback were not served",
        ),
    ],
)
def test_what_went_wrong_fails(wrong: RolloutRun, words: str) -> None:
    verdict = judge_rollout((GOOD, BACK, wrong), LIMIT, POLICY)
    assert verdict.outcome == "fail"
    assert words in verdict.reason


def test_what_was_not_finished_is_no_pass() -> None:
    verdict = judge_rollout((GOOD, run("slow", "x", "unfinished", traffic(9, 0))), LIMIT, POLICY)
    assert verdict.outcome == "inconclusive"
