"""Cases are run within their budget, and say so where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.selfcheck.cases import CASES, Case
from pytest_edgeai.selfcheck.run import SelfCheck

BY_NAME = {case.name: case for case in CASES}


def check(folder: Path, *names: str, budget_s: float) -> tuple[SelfCheck, list[Case]]:
    cases = [BY_NAME[name] for name in names]
    say = SelfCheck(folder, cases, budget_s=budget_s, say=lambda *words: None, seed=0)
    return say, cases


def test_a_case_without_time_is_not_run(tmp_path: Path) -> None:
    self_check, cases = check(tmp_path, "slower-50", "accuracy", "drift", budget_s=1e-6)
    results = [self_check.run(case) for case in cases]
    assert all(result.not_run for result in results)
    assert all(result.counts.answers == 0 for result in results)
    assert self_check.results == results
    assert self_check.resolution is None


def test_a_case_can_be_run_again(tmp_path: Path) -> None:
    self_check, (case,) = check(tmp_path, "precision", budget_s=1.0)
    assert self_check.run(case).counts == self_check.run(case).counts
    assert len(self_check.results) == 2


def test_checks_need_no_budget(tmp_path: Path) -> None:
    self_check, cases = check(tmp_path, "precision", "artifacts", budget_s=1e-6)
    for case in cases:
        result = self_check.run(case)
        assert not result.is_wrong, result.falsehoods
        assert result.counts.answers >= 3
        assert result.counts.undecided == 0


@pytest.mark.parametrize("name", ["outputs", "unmeasurable", "memory"])
def test_planted_faults_are_found_by_workers_and_judges(tmp_path: Path, name: str) -> None:
    self_check, (case,) = check(tmp_path, name, budget_s=1.0)
    result = self_check.run(case)
    assert result.falsehoods == ()
    assert result.error == ""
    assert result.counts.missed >= 1


def test_a_pair_is_measured_and_judged(tmp_path: Path) -> None:
    """Whatever the machine does meanwhile, no verdict may be false."""
    self_check, (case,) = check(tmp_path, "slower-50", budget_s=2.0)
    result = self_check.run(case)
    if result.not_run:  # another session was measuring all the while
        pytest.skip(result.not_run)
    assert result.falsehoods == ()
    assert result.counts.missed >= 2
    assert self_check.noise.measurements == len(result.details["rounds"]) >= 1


def test_a_pair_is_watched_and_judged(tmp_path: Path) -> None:
    """A leak is found to the page whatever the machine does, where there is time for 12 turns."""
    self_check, (case,) = check(tmp_path, "slow-leak", budget_s=4.0)
    result = self_check.run(case)
    if result.not_run:  # another session was measuring all the while
        pytest.skip(result.not_run)
    assert result.falsehoods == ()
    assert result.group == "stability"
    assert len(result.details["answers"]) == 3 * len(result.details["turns"])
    assert result.counts.missed == len(result.details["turns"]) >= 1


def test_what_cannot_be_written_is_an_error_of_the_case(tmp_path: Path) -> None:
    self_check, (case,) = check(tmp_path, "artifacts", budget_s=1.0)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "cache").write_text("in the way", encoding="utf-8")
    result = self_check.run(case)
    assert "cache" in result.error
    assert not result.is_wrong
