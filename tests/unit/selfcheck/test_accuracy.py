"""Simulated losses of accuracy keep what the gate promises."""

from __future__ import annotations

import pytest

from pytest_edgeai.selfcheck.accuracy import LOSSES, PROMISED_RATIO, SAMPLES, rows, simulate
from pytest_edgeai.selfcheck.rates import breaks_promise


def test_every_loss_is_drawn_and_none_breaks_the_promise() -> None:
    shares: list[float] = []
    cells = simulate(budget_s=1e-9, seed=3, progress=shares.append)
    assert [(c.samples, c.loss) for c in cells] == [(n, loss) for n in SAMPLES for loss in LOSSES]
    assert shares
    assert shares[-1] == 1.0
    for cell in cells:
        assert cell.counts.answers == 50
        assert cell.disagreements == 0
        assert not breaks_promise(cell.counts, PROMISED_RATIO)
        assert (cell.counts.met == 50) == (cell.loss < 0.05)
    assert [samples for samples, _ in rows(cells)] == list(SAMPLES)


def test_many_samples_decide_and_few_do_not() -> None:
    cells = simulate(budget_s=1e-9, seed=3, progress=lambda share: None)
    found = {(cell.samples, cell.loss): cell.counts.undecided for cell in cells}
    assert found[50, 0.01] > 25
    assert found[10_000, 0.10] == found[10_000, 0.01] == 0


def test_a_seed_gives_the_same_counts() -> None:
    first, second, third = (
        simulate(budget_s=1e-9, seed=seed, progress=lambda share: None) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != third


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_lies_at_the_threshold(loss: float) -> None:
    assert abs(1 - loss - 0.95) > 0.005
