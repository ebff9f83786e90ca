from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.framework_agreement import judge_framework_agreement, samples_needed
from pytest_edgeai.production_records import FrameworkAnswers
from pytest_edgeai.records import Threshold, Verdict

LIMIT = Threshold(0.95, "at_least")
TRIALS = 2000


def answers(agreeing: int, samples: int, name: str = "other", **changes: Any) -> FrameworkAnswers:
    agrees = np.repeat([True, False], [agreeing, samples - agreeing])
    return FrameworkAnswers(name, changes.pop("counts", True), agrees, {"y": 0.001}, **changes)


def judged(*given: FrameworkAnswers, limit: Threshold = LIMIT, available: int = 300) -> Verdict:
    return judge_framework_agreement(
        given, limit, reference="own", alike="within 0.01", available=available
    )


@pytest.mark.parametrize(
    ("agreeing", "samples", "outcome"),
    [
        (59, 59, "pass"),
        (58, 58, "inconclusive"),
        (300, 300, "pass"),
        (285, 300, "inconclusive"),
        (270, 300, "fail"),
        (0, 10, "fail"),
    ],
)
def test_it_decides_by_the_exact_binomial(agreeing: int, samples: int, outcome: str) -> None:
    verdict = judged(answers(agreeing, samples))
    assert verdict.outcome == outcome
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert (low > 0.95, high < 0.95) == (outcome == "pass", outcome == "fail")


def test_at_the_limit_it_errs_no_more_than_stated() -> None:
    counts = np.random.default_rng(3).binomial(200, 0.95, TRIALS)
    outcomes = {int(k): judged(answers(int(k), 200)).outcome for k in np.unique(counts)}
    found = [outcomes[int(k)] for k in counts]
    for wrong in ("pass", "fail"):
        assert found.count(wrong) / TRIALS <= 0.05
        assert found.count(wrong) > 0


def test_too_few_samples_name_the_number() -> None:
    verdict = judged(answers(40, 40), available=40)
    assert "59 samples would" in verdict.reason
    assert verdict.details["samples_needed"] == samples_needed(0.95) == 59
    assert "add evaluation samples" in verdict.advice
    assert "more time" in judged(answers(40, 40), available=300).advice


def test_the_worst_of_those_that_count_decides_and_others_are_stated() -> None:
    good, bad = answers(300, 300, "good"), answers(200, 300, "bad")
    assert judged(good, bad).outcome == "fail"
    assert judged(good, bad).details["error_rate"] == pytest.approx(0.1)
    beside = answers(200, 300, "bad", counts=False)
    verdict = judged(good, beside)
    assert verdict.outcome == "pass"
    assert "beside it bad answer 66.7%" in verdict.reason
    refused = FrameworkAnswers("odd", True, np.zeros(0, np.bool_), {}, problem="refuses it")
    assert "beside it odd refuses it" in judged(good, refused).reason
    assert judged(refused).outcome == "error"


def test_a_limit_of_one_takes_every_sample() -> None:
    every = Threshold(1.0, "at_least")
    assert judged(answers(300, 300), limit=every).outcome == "pass"
    assert judged(answers(299, 299), limit=every).outcome == "inconclusive"
    assert judged(answers(298, 300), limit=every).outcome == "fail"
    assert samples_needed(1.0) is None


def test_text_is_judged_by_its_blocks() -> None:
    """A thousand tokens of three blocks are three independent pieces of evidence."""
    for blocks, outcome in ((3, "inconclusive"), (12, "pass")):
        index = np.repeat(np.arange(blocks), 300)
        agrees = np.random.default_rng(1).random(len(index)) < 0.99
        given = FrameworkAnswers("other", True, agrees, {}, blocks=index)
        verdict = judged(given, available=blocks)
        assert verdict.outcome == outcome
        assert f"{blocks} blocks alike" in verdict.reason
