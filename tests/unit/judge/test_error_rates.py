"""The error rates that docs/statistics.md promises, from simulations with fixed seeds.

The tables of that page are read and compared, so that neither they nor the code can change alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.latency import judge_latency_consistency
from pytest_edgeai.judge.retention import PairedCounts, decide_retention
from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.records import Threshold

PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"
TOLERANCE = 0.015
"""Another release of NumPy may draw other numbers from the same seed."""

SPEED_TRIALS = 200
TAIL_TRIALS = 40


def promised(table: str) -> dict[tuple[str, ...], list[float]]:
    """Read a table of the page: the cells before the first number with a point are its key."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(rf"<!-- table: {table} -->\n(.*?)\n\n", text, re.DOTALL)
    assert block, f"docs/statistics.md has no table {table}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block[1].splitlines()]
    keys = rows[0].index("pass")
    return {tuple(row[:keys]): [float(cell) for cell in row[keys:]] for row in rows[2:]}


def test_the_page_has_every_row() -> None:
    machines = ("quiet", "busy")
    ratios = ("0.90", "0.95", "1.00", "1.05", "1.10")
    assert set(promised("speed")) == {(m, r) for m in machines for r in ratios}
    tails = ("0.50", "1.00", "1.30", "2.00")
    assert set(promised("tail")) == {(m, r) for m in machines for r in tails}
    retentions = ("0.94", "0.95", "0.96", "0.99")
    assert set(promised("accuracy")) == {
        (n, r) for n in ("200", "1000", "5000") for r in retentions
    }


@pytest.mark.parametrize("machine", ["quiet", "busy"])
@pytest.mark.parametrize("relative", ["0.90", "0.95", "1.00", "1.05", "1.10"])
def test_speed(simulate: Any, machine: str, relative: str) -> None:
    threshold = Threshold(2.0, "at_least")
    generator = np.random.default_rng([machine == "busy", round(100 * float(relative))])
    outcomes, rounds, naive = [], [], 0
    for _ in range(SPEED_TRIALS):
        timings = simulate(
            generator, rounds=900, ratio=2.0 * float(relative), busy=machine == "busy"
        )
        verdict = judge_speed(timings, threshold, budget_spent=True)
        outcomes.append(verdict.outcome)
        channels = verdict.details["channels"]
        if verdict.outcome != "inconclusive":
            needed = max(5 * channels["wall"]["decided_at"], channels["cpu"]["decided_at"])
            rounds.append(max(30, needed))
        # What a script does: time one model, then the other, compare the medians.
        one_after_the_other = np.median(timings.baseline_wall_ns[:450]) / np.median(
            timings.candidate_wall_ns[450:]
        )
        naive += one_after_the_other >= 2.0
    shares = [outcomes.count(name) / SPEED_TRIALS for name in ("pass", "fail", "inconclusive")]
    expected = promised("speed")[machine, relative]
    assert [*shares, naive / SPEED_TRIALS] == pytest.approx(
        [*expected[:3], expected[4]], abs=TOLERANCE
    )
    if max(shares[:2]) > 0.5:
        assert np.median(rounds) == pytest.approx(expected[3], abs=20)
    # At the threshold itself either verdict may be wrong, each with a probability of alpha.
    wrong = {"0": shares[0], "1": shares[1]}[relative[0]]
    assert wrong <= 0.01
    if relative == "1.00":
        assert shares[0] <= 0.01


@pytest.mark.parametrize("machine", ["quiet", "busy"])
@pytest.mark.parametrize("relative", ["0.50", "1.00", "1.30", "2.00"])
def test_tail(simulate: Any, machine: str, relative: str) -> None:
    threshold = Threshold(1.10, "at_most")
    generator = np.random.default_rng([7, machine == "busy", round(100 * float(relative))])
    outcomes = []
    for seed in range(TAIL_TRIALS):
        timings = simulate(generator, rounds=300, ratio=1 / float(relative), busy=machine == "busy")
        verdict = judge_latency_consistency(
            timings, threshold, absolute_limits_ns={}, budget_spent=True, seed=seed
        )
        outcomes.append(verdict.outcome)
    shares = [outcomes.count(name) / TAIL_TRIALS for name in ("pass", "fail", "inconclusive")]
    assert shares == pytest.approx(promised("tail")[machine, relative], abs=0.05)
    wrong = shares[1] if float(relative) <= 1.1 else shares[0]
    assert wrong <= 0.05


@pytest.mark.parametrize("samples", ["200", "1000", "5000"])
@pytest.mark.parametrize("retention", ["0.94", "0.95", "0.96", "0.99"])
def test_accuracy(samples: str, retention: str) -> None:
    draws = 200 if samples == "5000" else 1000
    both = float(retention) * 0.95 - 0.005
    cells = [both, 0.95 - both, 0.005, 0.045]
    generator = np.random.default_rng([int(samples), round(1000 * float(retention))])
    tables, counts = np.unique(
        generator.multinomial(int(samples), cells, size=draws), axis=0, return_counts=True
    )
    decided = [decide_retention(PairedCounts(*row), 0.95, 0.05) for row in tables.tolist()]
    shares = [
        sum(int(n) for n, d in zip(counts, decided, strict=True) if d == name) / draws
        for name in ("pass", "fail", "undecided")
    ]
    assert shares == pytest.approx(promised("accuracy")[samples, retention], abs=0.03)
    if float(retention) <= 0.95:
        assert shares[0] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)
    if float(retention) >= 0.95:
        assert shares[1] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)
