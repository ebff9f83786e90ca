"""Ranking layers within a time box, and the noise that ranks them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.sensitivity import (
    MOST_CALLS,
    noise_ratio,
    rank_layers,
    run_calls,
)


@dataclass
class Layers:
    """Layers whose noise adds up, each measurement of which takes a second."""

    noise: dict[str, float]
    now: float = 0.0
    asked: list[tuple[str, ...]] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    def measure(self, names: Sequence[str]) -> float:
        self.now += 1.0
        self.asked.append(tuple(names))
        return math.fsum(self.noise[name] for name in names)

    def rank(self, time_box_s: float) -> tuple[tuple[tuple[str, ...], float], ...]:
        found, count = rank_layers(
            list(self.noise),
            self.measure,
            time_box_s,
            lambda what, done: self.told.append(done),
            lambda: self.now,
        )
        assert count == len(self.asked)
        return tuple((each.layers, each.noise_ratio) for each in found)


def layers(count: int, **harmful: float) -> Layers:
    noise = {f"l{number}": 1e-6 * (1 + number % 3) for number in range(count)}
    return Layers({**noise, **harmful})


def test_enough_time_measures_each_layer() -> None:
    model = layers(30, l7=0.5)
    assert model.rank(30.0) == tuple(((name,), noise) for name, noise in model.noise.items())
    assert len(model.asked) == 30
    assert all(0 < done <= 1 for done in model.told)


def test_little_time_finds_the_harmful_among_many() -> None:
    model = layers(200, l61=0.5, l140=0.2)
    found = dict(model.rank(60.0))
    assert len(model.asked) <= 60
    assert found["l61",] == 0.5
    assert found["l140",] == 0.2
    assert sorted(name for names in found for name in names) == sorted(model.noise)


@given(count=st.integers(1, 60), time_box_s=st.floats(0, 80), seed=st.integers(0, 9))
def test_every_layer_is_in_one_entry_in_order(count: int, time_box_s: float, seed: int) -> None:
    noise = np.random.default_rng(seed).exponential(size=count)
    model = Layers({f"l{number}": float(value) for number, value in enumerate(noise)})
    found = model.rank(time_box_s)
    assert [name for names, _ in found for name in names] == list(model.noise)
    for names, value in found:
        assert value == pytest.approx(sum(model.noise[name] for name in names))
    least = 2 * math.isqrt(count) + 3
    assert len(model.asked) <= max(time_box_s, least)


def test_contention_leaves_the_rest_in_one_entry() -> None:
    model = layers(10)
    times = iter([0.0, 1.0, 1.0, *[50.0] * 40])

    found, count = rank_layers(
        list(model.noise), model.measure, 20.0, lambda what, done: None, lambda: next(times)
    )
    assert [name for each in found for name in each.layers] == list(model.noise)
    assert count == len(found) < 10


class Samples:
    """Calls with one input each; may be iterated again."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for value in self._values:
            yield {"x": np.full(2, value, np.float32)}


def test_noise_is_the_error_over_the_signal_of_each_output() -> None:
    samples = Samples([1.0, 2.0])
    reference = run_calls(lambda feeds: {"y": feeds["x"], "z": feeds["x"] * 10}, samples)
    assert len(reference) == 2
    ratio = noise_ratio(
        reference, lambda feeds: {"y": feeds["x"] * 1.1, "z": feeds["x"] * 10}, samples
    )
    assert ratio == pytest.approx(0.01 / 2, rel=1e-5)
    assert noise_ratio(reference, lambda f: {"y": f["x"], "z": f["x"] * 10}, samples) == 0


def test_an_output_that_is_not_finite_is_infinitely_wrong() -> None:
    samples = Samples([1.0])
    reference = run_calls(lambda feeds: {"y": feeds["x"]}, samples)
    assert noise_ratio(reference, lambda feeds: {"y": feeds["x"] * np.nan}, samples) == math.inf
    both = run_calls(lambda feeds: {"y": np.array([np.inf, 1.0])}, samples)
    assert noise_ratio(both, lambda feeds: {"y": np.array([np.inf, 1.0])}, samples) == 0


def test_calls_are_limited_and_need_numbers() -> None:
    assert len(run_calls(lambda feeds: {"y": feeds["x"]}, Samples([1.0] * 500))) == MOST_CALLS
    with pytest.raises(ModelError, match="no output holds floating-point numbers"):
        run_calls(lambda feeds: {"label": np.array([1])}, Samples([1.0]))
