"""The error rates that docs/statistics.md promises, from simulations with fixed seeds.

The tables of that page are read and compared, so that neither they nor the code can change alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.judge.drift import judge_latency_drift
from pytest_edgeai.judge.latency import judge_latency_consistency
from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.retention import PairedCounts, decide_retention
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.judge.tail import judge_latency_tail
from pytest_edgeai.judge.turns import is_settled
from pytest_edgeai.measure.corpus import corpus_quality, f1
from pytest_edgeai.measure.detection import mean_average_precision
from pytest_edgeai.records import PairedQuality, Threshold

PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"
TOLERANCE = 0.015
"""Another release of NumPy may draw other numbers from the same seed."""

SPEED_TRIALS = 200
TAIL_TRIALS = 40
STABILITY_TRIALS = 60
PARTS = (24, 48, 96)
"""Turns after which the gates of stability are asked; a budget that allows for no more."""

STRAGGLERS = [
    (machine, share, kind)
    for machine in ("quiet", "busy")
    for share, kind in (
        ("0.000", "none"),
        ("0.005", "computing"),
        ("0.005", "waiting"),
        ("0.010", "computing"),
        ("0.020", "computing"),
    )
]
DRIFTS = [(m, g) for m in ("quiet", "busy") for g in ("0.80", "1.00", "1.20", "1.50")]
GROWTHS = [
    (leak, steps)
    for leak, steps in (("0.00", "1"), ("0.50", "1"), ("1.05", "1"), ("4.00", "1"), ("4.00", "3"))
]
WHOLE_TRIALS = 400
DETECTOR_TRIALS = 100
DETECTORS = ("0.800", "0.860", "0.920")
"""Thresholds; the one between is what the candidate retains on 160,000 images."""
WHOLE = ("0.90", "0.95", "0.99")
COSINE_TRIALS = 400
COSINES = ("0.940", "0.950", "0.958", "0.970", "0.990")
SLICE_TRIALS = 200
SLICES = [
    (classes, samples, retention)
    for classes, samples in (("10", "54"), ("100", "50"), ("50", "10"))
    for retention in ("0.20", "0.50", "0.70", "0.99")
]


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
    assert set(promised("slices")) == set(SLICES)
    assert set(promised("whole")) == {(r,) for r in WHOLE}
    assert set(promised("detector")) == {(t,) for t in DETECTORS}
    assert set(promised("cosine")) == {(m,) for m in COSINES}
    assert set(promised("stragglers")) == set(STRAGGLERS)
    assert set(promised("drift")) == set(DRIFTS)
    assert set(promised("growth")) == set(GROWTHS)


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


@pytest.mark.parametrize(("classes", "samples", "retention"), SLICES)
def test_slices(classes: str, samples: str, retention: str) -> None:
    """One class retains so much; all others retain 0.99, of a baseline that is right on 0.95."""
    threshold = Threshold(0.5, "more_than")
    index = np.repeat(np.arange(int(classes)), int(samples))
    kept = np.where(index == 0, float(retention), 0.99)
    generator = np.random.default_rng([int(classes), int(samples), round(100 * float(retention))])
    outcomes = []
    for _ in range(SLICE_TRIALS):
        baseline = generator.random(len(index)) < 0.95
        candidate = baseline & (generator.random(len(index)) < kept)
        quality = PairedQuality(
            "accuracy",
            "proportion",
            baseline.astype(np.float64),
            candidate.astype(np.float64),
            index,
        )
        outcomes.append(judge_slices(quality, threshold).outcome)
    shares = [outcomes.count(name) / SLICE_TRIALS for name in ("pass", "fail", "inconclusive")]
    assert shares == pytest.approx(promised("slices")[classes, samples, retention], abs=0.03)
    if float(retention) <= 0.5 and samples != "10":
        assert shares[0] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SLICE_TRIALS)
    if float(retention) >= 0.5:
        assert shares[1] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SLICE_TRIALS)


def watched(judge: Any, limit: float, samples: Any, cut: Any) -> str:
    """Return what a gate says when it is asked after each part, as in a session."""
    threshold = Threshold(limit, "at_most")
    for turns in PARTS:
        verdict = judge(cut(samples, turns), threshold)
        if is_settled(verdict, turns):
            break
    return str(verdict.outcome)


def shares_of(outcomes: Sequence[str]) -> list[float]:
    return [outcomes.count(name) / len(outcomes) for name in ("pass", "fail", "inconclusive")]


def margin(rate: float, trials: int) -> float:
    """Return what a share may reach by chance where its probability is ``rate``."""
    return rate + 2 * float(np.sqrt(rate * (1 - rate) / trials))


@pytest.mark.parametrize(("machine", "share", "kind"), STRAGGLERS)
def test_stragglers(simulate_turns: Any, cut: Any, machine: str, share: str, kind: str) -> None:
    seed = [11, machine == "busy", round(1000 * float(share)), kind == "waiting"]
    generator = np.random.default_rng(seed)
    outcomes = []
    for _ in range(STABILITY_TRIALS):
        samples = simulate_turns(
            generator,
            turns=PARTS[-1],
            share=float(share),
            idle=kind == "waiting",
            busy=machine == "busy",
        )
        outcomes.append(watched(judge_latency_tail, 0.005, samples, cut))
    shares = shares_of(outcomes)
    assert shares == pytest.approx(promised("stragglers")[machine, share, kind], abs=0.05)
    if float(share) >= 0.005:
        assert shares[0] <= margin(0.05, STABILITY_TRIALS)
    if float(share) <= 0.005:
        assert shares[1] <= margin(0.05, STABILITY_TRIALS)


@pytest.mark.parametrize(("machine", "growth"), DRIFTS)
def test_drift(simulate_turns: Any, cut: Any, machine: str, growth: str) -> None:
    generator = np.random.default_rng([12, machine == "busy", round(100 * float(growth))])
    outcomes = []
    for _ in range(STABILITY_TRIALS):
        samples = simulate_turns(
            generator, turns=PARTS[-1], growth=float(growth), busy=machine == "busy"
        )
        outcomes.append(watched(judge_latency_drift, 1.10, samples, cut))
    shares = shares_of(outcomes)
    assert shares == pytest.approx(promised("drift")[machine, growth], abs=0.05)
    if float(growth) <= 1:
        assert shares[1] == 0
    if float(growth) >= 1.5:
        assert shares[0] == 0


@pytest.mark.parametrize(("leak", "steps"), GROWTHS)
def test_growth(simulate_turns: Any, cut: Any, leak: str, steps: str) -> None:
    generator = np.random.default_rng([13, round(100 * float(leak)), int(steps)])
    outcomes = []
    for _ in range(STABILITY_TRIALS // 2):
        samples = simulate_turns(
            generator, turns=PARTS[-1], leak_bytes=1024 * float(leak), step_every=int(steps)
        )
        outcomes.append(watched(judge_memory_growth, float(2**20), samples, cut))
    shares = shares_of(outcomes)
    assert shares == pytest.approx(promised("growth")[leak, steps], abs=0.05)
    # 1.024 KiB a call are the limit, 1 MiB per 1,000 calls.
    assert shares[0 if float(leak) > 1.024 else 1] == 0


@pytest.mark.parametrize("retention", WHOLE)
def test_whole(retention: str) -> None:
    """Four classes alike, 600 samples: the candidate keeps so much of the baseline's answers."""
    generator = np.random.default_rng(round(100 * float(retention)))
    outcomes = []
    for _ in range(WHOLE_TRIALS):
        labels = generator.integers(0, 4, 600)
        other = (labels + generator.integers(1, 4, 600)) % 4
        is_right = generator.random(600) < 0.9
        is_kept = is_right & (generator.random(600) < float(retention))
        quality = corpus_quality(
            f1,
            "f1",
            {"y": np.where(is_right, labels, other)},
            {"y": np.where(is_kept, labels, other)},
            labels,
        )
        outcomes.append(judge_accuracy(quality, Threshold(0.95, "more_than")).outcome)
    shares = shares_of(outcomes)
    assert shares == pytest.approx(promised("whole")[(retention,)], abs=0.03)
    if retention == "0.95":
        assert max(shares[:2]) <= margin(0.05, WHOLE_TRIALS)


@cache
def detectors() -> tuple[PairedQuality, ...]:
    """Draws of 500 images with 1,400 objects; the candidate loses one in ten and moves the rest."""
    generator = np.random.default_rng(0)
    return tuple(_detectors(generator, 500) for _ in range(DETECTOR_TRIALS))


def _detectors(generator: np.random.Generator, images: int) -> PairedQuality:
    objects, clutter = 4, 8
    low = generator.random((images, objects, 2)) * 80
    high = low + 10 + generator.random((images, objects, 2)) * 25
    names = generator.integers(0, 5, (images, objects, 1))
    names[generator.random((images, objects)) < 0.3] = -1
    labels = np.concatenate([low, high, names], axis=2)
    corner = generator.random((images, clutter, 2)) * 80
    false = np.concatenate(
        [
            corner,
            corner + 18,
            generator.random((images, clutter, 1)) * 0.7,
            generator.integers(0, 5, (images, clutter, 1)),
        ],
        axis=2,
    )
    scores = 0.3 + 0.7 * generator.random((images, objects, 1))
    boxes = labels[..., :4] + generator.normal(size=(images, objects, 4))
    found = generator.random((images, objects, 1))
    sides: list[dict[str, NDArray[np.float64]]] = []
    for moved, kept in ((0.0, 0.95), (0.3, 0.85)):
        place = boxes + moved * generator.normal(size=boxes.shape)
        answered = np.where(found < kept, names, -1)
        true = np.concatenate([place, scores, answered], axis=2)
        sides.append({"detections": np.concatenate([true, false], axis=1)})
    return corpus_quality(mean_average_precision, "map", sides[0], sides[1], labels)


@pytest.mark.parametrize("threshold", DETECTORS)
def test_detector(threshold: str) -> None:
    limit = Threshold(float(threshold), "more_than")
    outcomes = [judge_accuracy(quality, limit).outcome for quality in detectors()]
    shares = shares_of(outcomes)
    assert shares == pytest.approx(promised("detector")[(threshold,)], abs=0.04)
    if threshold == DETECTORS[1]:
        assert max(shares[:2]) <= margin(0.05, DETECTOR_TRIALS)


@pytest.mark.parametrize("mean", COSINES)
def test_cosine(mean: str) -> None:
    """200 samples; the distance to a cosine of 1 has a gamma distribution of shape 2."""
    generator = np.random.default_rng(round(1000 * float(mean)))
    outcomes = []
    for _ in range(COSINE_TRIALS):
        cosines = np.clip(1 - generator.gamma(2, (1 - float(mean)) / 2, 200), -1, 1)
        kept = np.ones(200)
        quality = PairedQuality(
            "cosine", "embedding", kept, kept, None, cosines={"cosine": cosines}
        )
        outcomes.append(judge_accuracy(quality, Threshold(0.95, "more_than")).outcome)
    shares = [outcomes.count(name) / COSINE_TRIALS for name in ("pass", "fail", "inconclusive")]
    assert shares == pytest.approx(promised("cosine")[(mean,)], abs=0.03)
    if float(mean) <= 0.958:
        assert shares[0] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / COSINE_TRIALS)
