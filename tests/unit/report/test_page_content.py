from __future__ import annotations

import dataclasses

import numpy as np

from pytest_edgeai.report.content import ModelReport, Report
from pytest_edgeai.report.page_content import Latencies, choose, quantile_rows, rank


def test_what_readers_want_to_see_comes_first(typical: Report) -> None:
    ranked = rank(typical.models[0])
    assert (ranked.best, ranked.front) == (0, frozenset({0}))
    assert ranked.order == (0, 1, 2), "what was not made comes last"
    blocked_first = dataclasses.replace(
        typical.models[0], candidates=typical.models[0].candidates[::-1]
    )
    assert rank(blocked_first).order == (2, 1, 0)


def test_equal_candidates_are_told_apart(typical: Report) -> None:
    first = typical.models[0].candidates[0]
    twins = dataclasses.replace(
        typical.models[0], candidates=(first, dataclasses.replace(first, target="cross"))
    )
    ranked = rank(twins)
    assert sorted(ranked.order) == [0, 1]
    assert ranked.front == {0, 1}


def test_every_model_gets_its_turn(typical: Report) -> None:
    candidate = typical.models[0].candidates[0]
    many: ModelReport = dataclasses.replace(
        typical.models[0],
        candidates=tuple(dataclasses.replace(candidate, id=f"c{n}") for n in range(9)),
    )
    one = dataclasses.replace(many, name="other", candidates=(candidate,))
    models = [rank(many), rank(one)]
    assert (1, 0) in choose(models, 2)
    assert len(choose(models, 5)) == 5
    assert len(choose(models, 100)) == 10
    assert choose(models, 0) == frozenset()


def test_quantiles_of_both_models() -> None:
    rows = quantile_rows(Latencies(np.full(5, 4_000_000), np.full(7, 1_500_000)))
    assert ("p99", "4.00 ms", "1.50 ms") in rows
    assert rows[-1] == ("calls", "5", "7")
