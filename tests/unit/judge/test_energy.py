"""The judge of energy: its error rate, its words, and that no estimate passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_edgeai.energy_records import CarbonFactor, EnergyMethod, EnergySamples, energy_from_json
from pytest_edgeai.judge.energy import (
    ERROR_RATE,
    energy_decided,
    energy_report,
    grams_per_million,
    joules_text,
    judge_energy,
)
from pytest_edgeai.judge.statistics import crossing_counts
from pytest_edgeai.measure.energy import FEWEST_PAIRS
from pytest_edgeai.records import Threshold, to_json

LIMIT = Threshold(0.75, "at_most", "edgeai.toml")
MEASURED = EnergyMethod(("RAPL",), True, {"package-0": "/sys/x"}, "by RAPL (package-0)")
ESTIMATED = EnergyMethod(
    ("CPU time",),
    False,
    {},
    "an estimate: CPU time times 4 W per core",
    not_measured="no counter of the energy of the CPU can be read",
    unreadable=("RAPL package-0: it may not be read",),
    watts_per_core=4.0,
)
GERMANY = CarbonFactor("DEU", "Germany", 380.95, "CodeCarbon 3.3.2")


def samples(
    ratios: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]],
    method: EnergyMethod = MEASURED,
    *,
    idle_watts: float = 4.0,
) -> EnergySamples:
    """Blocks of 100 calls and 1 s at 20 J of the baseline."""
    of = np.asarray(ratios, dtype=np.float64)
    count = len(of)
    calls = np.full(count, 100, dtype=np.int64)
    seconds = np.ones(count)
    first = np.arange(count) % 2 == 0
    baseline = np.full(count, 20.0)
    return EnergySamples(
        baseline, of * 20.0, calls, calls, seconds, seconds, first, np.asarray([idle_watts]), method
    )


def test_clear_cases_take_nine_pairs() -> None:
    assert not energy_decided(samples([0.5] * 8), LIMIT)
    for ratio, outcome in ((0.5, "pass"), (1.1, "fail")):
        taken = samples([ratio] * 9)
        assert energy_decided(taken, LIMIT)
        verdict = judge_energy(taken, LIMIT, budget_spent=False)
        assert verdict.outcome == outcome
        assert verdict.observed == pytest.approx(ratio)
        assert verdict.details["error_rate"] == ERROR_RATE
        assert verdict.details["joules"]["baseline"] == pytest.approx(0.2)
        assert "9 pairs of blocks" in verdict.reason
        assert "200 mJ" in verdict.reason


def test_measuring_and_judging_agree_on_the_fewest_pairs() -> None:
    assert crossing_counts(ERROR_RATE, FEWEST_PAIRS)[-1] == FEWEST_PAIRS
    assert crossing_counts(ERROR_RATE, FEWEST_PAIRS - 1)[-1] > FEWEST_PAIRS - 1


def test_few_or_mixed_pairs_are_inconclusive_with_a_forecast() -> None:
    verdict = judge_energy(samples([0.7, 0.8] * 6), LIMIT, budget_spent=True)
    assert verdict.outcome == "inconclusive"
    assert "the budget is used up" in verdict.reason
    few = judge_energy(samples([0.5] * 4), LIMIT, budget_spent=True)
    assert few.outcome == "inconclusive"
    assert "further pairs would decide" in few.reason


def test_an_estimate_is_a_proxy_whatever_it_says() -> None:
    for ratio, would in ((0.1, "pass"), (2.0, "fail")):
        verdict = judge_energy(samples([ratio] * 10, ESTIMATED), LIMIT, budget_spent=False)
        assert verdict.outcome == "proxy"
        assert verdict.details["outcome_on_proxy"] == would
        assert verdict.details["measured"] is False
        assert "error_rate" not in verdict.details
        assert "an estimate" in verdict.reason
        assert "was not measured" in verdict.reason
        assert "the limit is 75.0%" in verdict.reason
        assert verdict.advice == "RAPL package-0: it may not be read"
    planted = replace(ESTIMATED, watts_per_core=None)
    verdict = judge_energy(samples([0.1] * 10, planted), LIMIT, budget_spent=False)
    assert "By these figures it would be pass: 10.0%" in verdict.reason
    silent = samples([0.1] * 10, replace(ESTIMATED, unreadable=()))
    assert "docs/energy.md" in judge_energy(silent, LIMIT, budget_spent=False).advice


def test_candidates_at_the_limit_are_misjudged_no_more_often_than_stated() -> None:
    generator = np.random.default_rng(7)
    wrong = 0
    trials = 300
    for _ in range(trials):
        ratios = 0.75 * np.exp(generator.normal(0, 0.05, 40))
        wrong += judge_energy(samples(ratios), LIMIT, budget_spent=True).outcome != "inconclusive"
    # Both directions together: at most 2 in 100; 13 or more of 300 have a chance below 1%.
    assert wrong <= 12


def test_faults_are_errors() -> None:
    for broken in ([0.5] * 8 + [0.0], [0.5, float("nan")], []):
        verdict = judge_energy(samples(broken), LIMIT, budget_spent=True)
        assert verdict.outcome == "error"
        assert broken == [] or energy_decided(samples(broken), LIMIT)
    bad = Threshold(float("nan"), "at_most")
    assert judge_energy(samples([0.5]), bad, budget_spent=True).outcome == "error"
    with pytest.raises(ValueError, match="relation"):
        judge_energy(samples([0.5]), Threshold(0.5, "at_least"), budget_spent=True)


def test_without_a_limit_nothing_is_judged() -> None:
    none = Threshold(None, "at_most")
    for method in (MEASURED, ESTIMATED):
        verdict = judge_energy(samples([0.5] * 9, method), none, budget_spent=True)
        assert verdict.outcome == "not_applicable"
    assert energy_decided(samples([0.5]), none)


def test_dependent_pairs_are_said() -> None:
    drifting = samples([0.7] * 12 + [0.8] * 12)
    assert (
        "depend on each other"
        in judge_energy(drifting, Threshold(0.75, "at_most"), budget_spent=True).reason
    )


def test_the_report_has_the_idle_power_and_the_emissions() -> None:
    method = replace(MEASURED, samples_per_call=2)
    report = energy_report(samples([0.5] * 9, method), GERMANY)
    assert report.baseline_joules == pytest.approx(0.1)
    assert report.candidate_joules == pytest.approx(0.05)
    assert report.interval == pytest.approx((0.5, 0.5))
    assert report.idle_watts == 4.0
    assert report.above_idle_ratio == pytest.approx((10 - 4) / (20 - 4))
    # 0.1 J a million times is 100 kJ, 1/36 kWh.
    assert report.baseline_grams_per_million == pytest.approx(380.95 / 36)
    assert grams_per_million(3.6, GERMANY) == pytest.approx(380.95)
    assert energy_from_json(to_json(report)) == report
    assert energy_from_json(None) is None
    bare = energy_report(samples([0.5] * 3, idle_watts=30.0))
    assert (bare.above_idle_ratio, bare.carbon, bare.baseline_grams_per_million) == (None,) * 3
    assert bare.interval == (None, None)
    assert energy_from_json(to_json(bare)) == bare


@pytest.mark.parametrize(
    ("joules", "text"),
    [(4.2e-7, "0.42 µJ"), (1.25e-3, "1.25 mJ"), (0.9999, "1 J"), (2.5, "2.5 J"), (4321, "4.32 kJ")],
)
def test_energies_read_well(joules: float, text: str) -> None:
    assert joules_text(joules) == text
