from __future__ import annotations

import random
from dataclasses import dataclass

from pytest_edgeai.judge.rollout import next_action
from pytest_edgeai.measure.rollout import AFTER_ROLLBACK_REQUESTS, PlantedFault, roll_out
from pytest_edgeai.rollout_records import RolloutPolicy, RolloutRun

POLICY = RolloutPolicy()


@dataclass
class Answering:
    """Answers by rule, and states the seconds instead of spending them."""

    seconds: float
    answers: bool = True
    asked: int = 0

    def ask(self, body: bytes) -> tuple[bool, float]:
        self.asked += 1
        return self.answers, self.seconds

    def fail(self) -> None:
        self.answers = False


def simulate(
    old: Answering, new: Answering, fault: PlantedFault | None = None, limit_s: float = 30
) -> RolloutRun:
    return roll_out(
        "ramp",
        old,
        new,
        [b"1", b"2"],
        POLICY,
        decide=next_action,
        fault=fault,
        generator=random.Random(1),
        limit_s=limit_s,
        progress=lambda what: None,
    )


def test_a_good_version_gets_all_requests_in_the_end() -> None:
    old, new = Answering(0.01), Answering(0.005)
    run = simulate(old, new)
    assert run.end == "completed"
    assert not run.traffic.failed.any()
    assert run.traffic.is_new[-POLICY.stage_requests :].all()
    assert new.asked == run.traffic.is_new.sum() >= 4 * POLICY.stage_requests
    assert not run.traffic.is_new[: POLICY.baseline_requests].any()


def test_a_version_that_dies_is_taken_back_and_nobody_notices() -> None:
    old, new = Answering(0.01), Answering(0.005)
    run = simulate(old, new, PlantedFault("it dies", new.fail))
    assert run.end == "rolled_back"
    assert run.back_s is not None
    assert run.traffic.failed.any()
    assert not run.traffic.lost.any(), "the old version answers what the new one fails"
    assert (run.traffic.stage == -1).sum() == AFTER_ROLLBACK_REQUESTS
    assert not run.traffic.is_new[run.traffic.stage == -1].any()


def test_a_slow_version_is_taken_back() -> None:
    assert simulate(Answering(0.01), Answering(0.05)).end == "rolled_back"


def test_requests_are_lost_where_both_fail() -> None:
    run = simulate(Answering(0.01, answers=False), Answering(0.01, answers=False), limit_s=0.2)
    assert run.traffic.lost.all()


def test_the_time_is_kept() -> None:
    run = simulate(Answering(0.01), Answering(0.005), limit_s=0)
    assert (run.end, len(run.traffic.stage)) == ("unfinished", 0)
