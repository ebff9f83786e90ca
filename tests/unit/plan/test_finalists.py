"""Who goes on to the full gates: who keeps the thresholds first, and nobody twice."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.plan.finalists import choose_finalists
from pytest_edgeai.records import Recipe, RuntimeOptions
from pytest_edgeai.search_records import DEFAULT_WEIGHTS, Figure, Trial, TrialState

Misses = dict[str, Literal["likely", "surely"]]


def trial(
    number: int,
    speed: float,
    accuracy: float = 1.0,
    *,
    state: TrialState = "measured",
    misses: Misses | None = None,
    size: int = 100,
    width: float = 0.0,
) -> Trial:
    def figure(value: float) -> Figure:
        return Figure(value, value - width, value + width)

    return Trial(
        number,
        Recipe("x", "s", {"n": number}),
        RuntimeOptions(),
        state,
        {"speedup": figure(speed), "accuracy_retained": figure(accuracy)},
        1.0,
        size_bytes=size,
        misses=misses or {},
    )


def numbers(chosen: tuple[Trial, ...]) -> list[int]:
    return [each.number for each in chosen]


def test_the_frontier_goes_on_and_what_it_dominates_does_not() -> None:
    trials = [trial(0, 2.0, 1.0), trial(1, 1.5, 0.99), trial(2, 3.0, 0.97)]
    assert sorted(numbers(choose_finalists(trials, "pareto", DEFAULT_WEIGHTS, 3))) == [0, 2]


def test_one_objective_takes_the_best_in_it() -> None:
    trials = [trial(0, 2.0), trial(1, 1.5), trial(2, 3.0, 0.97)]
    assert numbers(choose_finalists(trials, "speedup", DEFAULT_WEIGHTS, 2)) == [2, 0]


def test_who_keeps_every_threshold_comes_alone() -> None:
    trials = [trial(0, 1.1), trial(1, 4.0, 0.9, misses={"accuracy_retained": "likely"})]
    assert numbers(choose_finalists(trials, "speedup", DEFAULT_WEIGHTS, 2)) == [0]


def test_where_nobody_keeps_them_the_frontier_is_returned_and_nothing_is_relaxed() -> None:
    surely: Misses = {"speedup": "surely"}
    trials = [
        trial(0, 0.9, 1.0, state="screened-out", misses=surely),
        trial(1, 0.8, 0.9, state="screened-out", misses=surely),
    ]
    chosen = choose_finalists(trials, "pareto", DEFAULT_WEIGHTS, 3)
    assert numbers(chosen) == [0]
    assert chosen[0].misses == surely


def test_ties_go_to_the_smaller_artifact() -> None:
    trials = [trial(0, 2.02, size=100, width=0.1), trial(1, 2.0, size=90, width=0.1)]
    assert numbers(choose_finalists(trials, "speedup", DEFAULT_WEIGHTS, 1)) == [1]


def test_what_could_not_be_made_is_nobody() -> None:
    assert choose_finalists([trial(0, 9.0, state="failed")], "pareto", DEFAULT_WEIGHTS, 3) == ()


@given(
    st.lists(
        st.tuples(st.floats(0.5, 4), st.floats(0.8, 1.0), st.floats(0, 0.2), st.booleans()),
        max_size=8,
    ),
    st.sampled_from(("pareto", "speedup", "accuracy_retained")),
    st.integers(1, 4),
)
def test_nobody_goes_on_twice_and_no_more_than_asked(
    some: list[tuple[float, float, float, bool]], objective: str, most: int
) -> None:
    trials = [
        trial(n, speed, accuracy, width=width, misses={"speedup": "likely"} if missed else {})
        for n, (speed, accuracy, width, missed) in enumerate(some)
    ]
    chosen = numbers(choose_finalists(trials, objective, DEFAULT_WEIGHTS, most))  # type: ignore[arg-type]
    assert len(chosen) == len(set(chosen)) <= most
    assert bool(chosen) == bool(trials)
    if any(not each.misses for each in trials):
        assert not any(trials[number].misses for number in chosen)
