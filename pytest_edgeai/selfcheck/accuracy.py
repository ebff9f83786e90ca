"""Losses of accuracy with a known truth: paired predictions, drawn and judged many times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.retention import PairedCounts, decide_retention
from pytest_edgeai.records import Outcome, PairedQuality, Threshold
from pytest_edgeai.selfcheck.rates import Answer, Tally, Truth, tally

THRESHOLD = 0.95
PROMISED_RATIO = 0.05
"""The gate promises that a candidate at the threshold itself passes, or fails, this often at most;
of one that is further off on the wrong side it happens less often."""

LOSSES = (0.01, 0.03, 0.06, 0.10)
SAMPLES = (50, 200, 1_000, 10_000)
BASELINE_ACCURACY = 0.95
GAIN_RATIO = 0.005
"""Share of the samples that the candidate alone gets right: quantizing turns some of them right."""

MOST_DRAWS = 1000
_DRAWS_AT_ONCE = 50
_WHOLE_GATE = 1
_OUTCOMES: dict[str, Outcome] = {"pass": "pass", "fail": "fail", "undecided": "inconclusive"}


@dataclass(frozen=True)
class Cell:
    """One loss at one number of samples.

    Attributes:
        loss: relative loss of accuracy.
        samples: evaluation samples.
        counts: what the gate said over all draws.
        disagreements: draws on which the whole gate said something else than its rule.
    """

    loss: float
    samples: int
    counts: Tally
    disagreements: int = 0


def simulate(*, budget_s: float, seed: int, progress: Callable[[float], None]) -> tuple[Cell, ...]:
    """Draw and judge pairs of predictions for every loss and number of samples.

    The rule of the gate (`retention.decide_retention`) judges every draw; the whole gate, which
    also computes an interval and a text and takes a hundred times as long, judges one of each 50.

    Args:
        budget_s: after so long no cell is gone over again; each gets 50 draws at least.
        seed: of the draws; the same number of draws gives the same counts.
        progress: called with the share done.
    """
    begin = time.monotonic()
    grid = list(product(SAMPLES, LOSSES))
    generators = [np.random.default_rng([seed, index]) for index in range(len(grid))]
    cells = [Cell(loss, samples, Tally()) for samples, loss in grid]
    for done in range(0, MOST_DRAWS, _DRAWS_AT_ONCE):
        spent = (time.monotonic() - begin) / budget_s
        if done and spent >= 1:
            break
        for index, cell in enumerate(cells):
            cells[index] = _draw(cell, generators[index])
        progress(min(1.0, max(spent, done / MOST_DRAWS)))
    return tuple(cells)


def _draw(cell: Cell, generator: np.random.Generator) -> Cell:
    both = (1 - cell.loss) * BASELINE_ACCURACY - GAIN_RATIO
    shares = [both, BASELINE_ACCURACY - both, GAIN_RATIO, 1 - BASELINE_ACCURACY - GAIN_RATIO]
    drawn = generator.multinomial(cell.samples, shares, size=_DRAWS_AT_ONCE).tolist()
    counts, disagreements = cell.counts, cell.disagreements
    truth: Truth = "met" if 1 - cell.loss > THRESHOLD else "missed"
    answers = []
    for number, row in enumerate(drawn):
        outcome = _OUTCOMES[decide_retention(PairedCounts(*row), THRESHOLD, PROMISED_RATIO)]
        answers.append(Answer("accuracy_retained", f"more than {THRESHOLD:g}", truth, outcome))
        if number < _WHOLE_GATE:
            disagreements += _whole_gate(row) != outcome
    return Cell(cell.loss, cell.samples, counts + tally(answers), disagreements)


def _whole_gate(row: list[int]) -> Outcome:
    quality = PairedQuality(
        "accuracy",
        "proportion",
        np.repeat([1.0, 1.0, 0.0, 0.0], row),
        np.repeat([1.0, 0.0, 1.0, 0.0], row),
        None,
    )
    return judge_accuracy(quality, Threshold(THRESHOLD, "more_than", "self-check")).outcome


def rows(cells: tuple[Cell, ...]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
    """Yield each number of samples with its cells, in the order of the losses."""
    for samples in SAMPLES:
        yield samples, tuple(cell for cell in cells if cell.samples == samples)
