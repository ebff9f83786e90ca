"""Fronts with intervals, and a recommendation that measuring again does not move."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.plan.pareto import Point, advantage, dominates, front, recommend, score, utility
from pytest_edgeai.search_records import DEFAULT_WEIGHTS, Figure

OBJECTIVES = ("speedup", "accuracy_retained", "memory_cut", "energy_retained")


def around(value: float, half: float) -> Figure:
    return Figure(value, value - half, value + half)


def point(name: str, size: int = 100, **figures: tuple[float, float]) -> Point:
    return Point(name, {key: around(*value) for key, value in figures.items()}, size)


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    low, middle, high = sorted(
        draw(st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3, unique=True))
    )
    return Figure(
        middle,
        draw(st.sampled_from((low, None))),
        draw(st.sampled_from((high, None))),
    )


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    count = draw(st.integers(1, 6))
    return [
        Point(
            f"p{number}",
            {
                name: draw(figures())
                for name in draw(st.sets(st.sampled_from(OBJECTIVES), min_size=1))
            },
            draw(st.integers(1, 3)),
        )
        for number in range(count)
    ]


def test_overlap_dominates_nothing() -> None:
    fast = point("fast", speedup=(2.0, 0.2))
    other = point("other", speedup=(1.9, 0.2))
    assert not dominates(fast.figures, other.figures)
    assert front([fast, other]) == (fast, other)


def test_surely_faster_and_not_told_apart_elsewhere_dominates() -> None:
    fast = point("fast", speedup=(3.0, 0.2), accuracy_retained=(0.990, 0.01))
    slow = point("slow", speedup=(2.0, 0.2), accuracy_retained=(0.995, 0.01))
    assert dominates(fast.figures, slow.figures)
    assert front([slow, fast]) == (fast,)


def test_surely_faster_and_surely_less_accurate_is_a_trade() -> None:
    fast = point("fast", speedup=(3.0, 0.2), accuracy_retained=(0.96, 0.01))
    slow = point("slow", speedup=(2.0, 0.2), accuracy_retained=(0.99, 0.01))
    assert front([slow, fast]) == (slow, fast)


def test_a_figure_that_was_hardly_measured_is_not_as_good() -> None:
    vague = point("vague", speedup=(3.0, 0.2), accuracy_retained=(0.99, 0.4))
    sound = point("sound", speedup=(2.0, 0.2), accuracy_retained=(0.99, 0.01))
    assert not dominates(vague.figures, sound.figures)


def test_less_energy_is_better() -> None:
    frugal = point("frugal", energy_retained=(0.4, 0.05))
    hungry = point("hungry", energy_retained=(0.8, 0.05))
    assert dominates(frugal.figures, hungry.figures)
    assert recommend([hungry, frugal], {"energy_retained": 1.0}) == frugal


def test_what_was_not_measured_speaks_against_who_lacks_it() -> None:
    fast = point("fast", speedup=(3.0, 0.1))
    whole = point("whole", speedup=(2.0, 0.1), memory_cut=(0.5, 0.01))
    assert not dominates(fast.figures, whole.figures)
    assert recommend([fast, whole], DEFAULT_WEIGHTS) == whole


def test_a_circle_keeps_its_points() -> None:
    wide = (0.5, 0.4)
    a = point("a", speedup=(0.9, 0.01), accuracy_retained=wide, memory_cut=(0.1, 0.01))
    b = point("b", speedup=(0.1, 0.01), accuracy_retained=(0.9, 0.01), memory_cut=wide)
    c = point("c", speedup=wide, accuracy_retained=(0.1, 0.01), memory_cut=(0.9, 0.01))
    assert front([a, b, c])


@given(points())
def test_domination_is_of_one_way_and_of_no_point_itself(some: list[Point]) -> None:
    for one in some:
        assert not dominates(one.figures, one.figures)
        for other in some:
            assert not (
                dominates(one.figures, other.figures) and dominates(other.figures, one.figures)
            )


@given(points(), st.randoms(use_true_random=False))
def test_the_front_is_never_empty_and_knows_no_order(
    some: list[Point], shuffler: random.Random
) -> None:
    chosen = front(some)
    assert chosen
    shuffled = list(some)
    shuffler.shuffle(shuffled)
    assert {p.id for p in front(shuffled)} == {p.id for p in chosen}
    for left in {p.id for p in some} - {p.id for p in chosen}:
        loser = next(p for p in some if p.id == left)
        assert any(dominates(p.figures, loser.figures) for p in some)


@given(points(), st.randoms(use_true_random=False))
def test_the_recommendation_knows_no_order(some: list[Point], shuffler: random.Random) -> None:
    chosen = recommend(some, DEFAULT_WEIGHTS)
    shuffled = list(some)
    shuffler.shuffle(shuffled)
    assert recommend(shuffled, DEFAULT_WEIGHTS) == chosen
    if chosen is not None:
        assert chosen in some


@given(figures())
def test_a_score_holds_its_own_estimate(figure: Figure) -> None:
    found = score({"speedup": figure}, {"speedup": 1.0})
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.observed <= found.high
    assert math.isclose(found.observed, utility("speedup", figure.observed))


def test_steps_weigh_alike() -> None:
    assert utility("speedup", 2.0) == utility("memory_cut", 0.5) == 1.0
    assert math.isclose(utility("accuracy_retained", 0.95), -1.0)
    assert utility("memory_cut", 1.0) == math.inf
    assert utility("speedup", 0.0) == -math.inf


def test_weights_decide_between_trades() -> None:
    fast = point("fast", speedup=(4.0, 0.1), accuracy_retained=(0.96, 0.005))
    exact = point("exact", speedup=(1.5, 0.1), accuracy_retained=(1.0, 0.005))
    assert recommend([fast, exact], {"speedup": 0.9, "accuracy_retained": 0.1}) == fast
    assert recommend([fast, exact], {"speedup": 0.1, "accuracy_retained": 0.9}) == exact


def test_measuring_again_does_not_move_the_choice_between_equals() -> None:
    """Two candidates of the same speed: noise decides who looks faster, never who is chosen."""
    chance = random.Random(7)
    chosen = []
    for _ in range(300):
        pair = [
            Point(name, {"speedup": around(chance.gauss(2.0, 0.05), 1.96 * 0.05)}, size)
            for name, size in (("small", 90), ("large", 100))
        ]
        found = recommend(pair, {"speedup": 1.0})
        assert found is not None
        chosen.append(found.id)
    assert chosen.count("small") >= 280


def test_the_noise_of_one_objective_hides_no_clear_difference_in_another() -> None:
    fast = point("fast", 100, speedup=(2.0, 0.1), accuracy_retained=(0.99, 0.05))
    small = point("small", 50, speedup=(1.0, 0.1), accuracy_retained=(1.0, 0.05))
    assert recommend([fast, small], DEFAULT_WEIGHTS) == fast


@given(points())
def test_an_advantage_of_one_is_a_disadvantage_of_the_other(some: list[Point]) -> None:
    for one in some:
        for other in some:
            there = advantage(one.figures, other.figures, DEFAULT_WEIGHTS)
            back = advantage(other.figures, one.figures, DEFAULT_WEIGHTS)
            assert math.isclose(there, -back, abs_tol=1e-12)


def test_measuring_again_does_not_move_a_clear_choice() -> None:
    chance = random.Random(8)
    for _ in range(200):
        pair = [
            Point(name, {"speedup": around(chance.gauss(mean, 0.05), 1.96 * 0.05)}, size)
            for name, mean, size in (("small", 1.5, 90), ("fast", 2.5, 100))
        ]
        found = recommend(pair, {"speedup": 1.0})
        assert found is not None
        assert found.id == "fast"


def test_nothing_to_choose() -> None:
    assert recommend([], DEFAULT_WEIGHTS) is None
    assert front([]) == ()
