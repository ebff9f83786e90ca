"""What can be told apart, and which thresholds ask for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pytest_edgeai.judge.speed import RESOLUTION_RATIO
from pytest_edgeai.records import PairedTimings
from pytest_edgeai.selfcheck.cases import CASES, TimedCase
from pytest_edgeai.selfcheck.rates import Answer
from pytest_edgeai.selfcheck.resolution import (
    Configured,
    Resolution,
    resolution_of,
    rounds_needed,
    sample_notes,
    warnings,
)
from pytest_edgeai.selfcheck.timed import Trial, decided, judge

SAME = next(case for case in CASES if isinstance(case, TimedCase) and case.name == "same-model")


def trial(ratio: float, rounds: int, noise: float = 0.02) -> Trial:
    """Simulate a measurement of two models, the first of which takes ``ratio`` times as long."""
    generator = np.random.default_rng([round(1000 * ratio), rounds])

    def times(factor: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        drawn = 500_000 * factor * generator.lognormal(0, noise, rounds)
        return drawn.astype(np.int64)

    baseline, candidate = times(ratio), times(1.0)
    none = np.zeros(rounds, np.int64)
    timings = PairedTimings(
        baseline, candidate, baseline, candidate, none, none, none.astype(np.bool_), none
    )
    verdicts = tuple(judge(question, timings, True) for question in SAME.questions)
    answers = tuple(
        Answer(question.gate, question.asked, question.truth, verdict.outcome)
        for question, verdict in zip(SAME.questions, verdicts, strict=True)
    )
    return Trial(answers, verdicts, timings, rounds * 0.02)


def resolved(*trials: Trial) -> Resolution:
    found = resolution_of(trials)
    assert found is not None
    return found


def test_equal_models_on_a_quiet_machine_are_resolved() -> None:
    found = resolved(trial(1.0, 200), trial(1.005, 200))
    assert found.ratio == RESOLUTION_RATIO
    assert found.rounds is not None
    assert 30 <= found.rounds <= 200
    assert found.lowest <= 1.005 <= found.highest + 0.01
    assert found.round_s == pytest.approx(0.02)


def test_what_was_not_told_is_not_claimed() -> None:
    found = resolved(trial(1.0, 200), trial(1.0, 20))
    assert found.ratio >= 0.05


def test_one_disturbed_measurement_does_not_set_the_budget() -> None:
    quiet = [trial(1.0, 200), trial(1.001, 200)]
    found = resolved(*quiet, trial(1.0, 40, noise=1.0))
    assert found.rounds == resolved(*quiet).most_rounds
    assert found.rounds is not None
    assert found.most_rounds is None or found.most_rounds > found.rounds


def test_processes_that_differ_widen_the_resolution() -> None:
    assert resolved(trial(1.08, 200)).ratio == pytest.approx(0.08, abs=0.01)


def test_a_budget_grows_with_the_call() -> None:
    found = Resolution(3, 0.03, 100, 100, 0.02, 0.99, 1.01)
    # 16 calls lead in below 12 ms / 16, none above 16 ms.
    assert found.seconds(500_000) == pytest.approx(100 * 2 * 17 * 0.5e-3)
    assert found.seconds(50_000_000) == pytest.approx(100 * 2 * 50e-3)
    assert Resolution(3, 0.05, None, None, 0.02, 0.99, 1.01).seconds(500_000) is None


def test_without_a_measurement_nothing_is_known() -> None:
    assert resolution_of([]) is None


def test_the_rounds_of_a_verdict_are_those_of_its_slowest_channel() -> None:
    timings = trial(1.0, 200).timings
    question = SAME.questions[0]
    verdict = judge(question, timings, True)
    assert verdict.outcome == "fail"
    channels = verdict.details["channels"]
    ends = [5 * channels["wall"]["decided_at"], channels["cpu"]["decided_at"]]
    assert rounds_needed(verdict) == max(30, *ends)
    assert decided(question, timings)


def configured(gate: str, *limits: float, speed: bool = True) -> Sequence[Configured]:
    return [Configured("digits", gate, limit, "edgeai.toml", speed) for limit in limits]


def test_a_threshold_closer_to_one_than_the_resolution_is_warned_of() -> None:
    resolution = Resolution(3, 0.05, 100, 100, 0.02, 0.96, 1.01)
    found = warnings(configured("speedup", 1.03, 2.0), resolution, 60.0)
    assert len(found) == 1
    assert "speedup = 1.03 (edgeai.toml) of digits" in found[0]
    assert "5.0%" in found[0]
    assert warnings(configured("speedup", 1.03), None, 60.0) == ()


def test_a_budget_that_is_too_small_is_warned_of() -> None:
    resolution = Resolution(3, 0.05, 1000, 1000, 0.02, 0.96, 1.01)
    (warning,) = warnings(configured("speedup", 2.0), resolution, 5.0)
    assert "--edge-budget is 5 s" in warning
    assert warnings(configured("memory_cut", 0.5, speed=False), resolution, 5.0) == ()


def test_accuracy_says_how_many_samples_it_takes() -> None:
    (note,) = sample_notes(configured("accuracy_retained", 0.95, 0.95, speed=False))
    assert "59 evaluation samples" in note
    (warning,) = warnings(configured("accuracy_retained", 1.0, speed=False), None, 60.0)
    assert "own accuracy" in warning
