from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.measure.warmup import (
    FEWEST_CALLS,
    MOST_CALLS,
    MOST_NS,
    WINDOW_CALLS,
    WINDOW_NS,
    settle,
)
from pytest_edgeai.records import Int64Array

Clocks = tuple[Int64Array, Int64Array | None]


class Model:
    """Calls whose wall and CPU times in ns are functions of their position."""

    def __init__(
        self,
        wall_ns: Callable[[np.ndarray], np.ndarray],
        cpu_ns: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.turns: list[int] = []
        self._wall_ns, self._cpu_ns = wall_ns, cpu_ns

    def __call__(self, calls: int) -> Clocks:
        position = (sum(self.turns) + np.arange(calls)).astype(np.float64)
        self.turns.append(calls)
        cpu = None if self._cpu_ns is None else self._cpu_ns(position).astype(np.int64)
        return self._wall_ns(position).astype(np.int64), cpu


def steps(call_ns: float, slow_calls: int, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda position: call_ns * np.where(position < slow_calls, factor, 1.0)


@pytest.mark.parametrize("call_ns", [20e3, 50e3, 1e6, 5e6])
def test_a_steady_model_takes_two_windows(call_ns: float) -> None:
    model = Model(steps(call_ns, 0, 1), steps(call_ns, 0, 1))
    known = settle(model)
    assert (known.calls, known.settled, known.call_ns) == (2 * WINDOW_CALLS, True, call_ns)
    assert sum(model.turns) == known.calls


@pytest.mark.parametrize(
    ("call_ns", "slow"),
    [(ns, slow) for ns in (50e3, 1e6, 5e6, 8.5e6) for slow in (1, 10, 25, 26, 50)]
    + [(ns, slow) for ns in (50e3, 1e6, 5e6) for slow in (60, 70)],
)
def test_slow_calls_at_the_start_are_behind_it(call_ns: float, slow: int) -> None:
    known = settle(Model(steps(call_ns, slow, 3), steps(call_ns, slow, 3)))
    assert known.settled
    assert known.calls > slow
    assert known.call_ns == call_ns
    assert known.calls <= 4 * WINDOW_CALLS


def test_a_gradual_start_is_followed_to_its_end() -> None:
    # Twice as slow at first, the excess halving every 60 calls: 1% is left after 400.
    known = settle(Model(lambda position: 1e6 * (1 + 2.0 ** (-position / 60))))
    assert known.settled
    assert known.call_ns < 1.1e6


def test_a_model_that_only_gets_faster_never_settles() -> None:
    known = settle(Model(lambda position: 1e6 * 0.998**position))
    assert not known.settled
    assert known.calls == MOST_CALLS


def test_time_bounds_the_warm_up_of_a_model_that_never_settles() -> None:
    known = settle(Model(lambda position: 300e6 * 0.985**position))
    assert not known.settled
    assert known.calls < 100
    model = Model(lambda position: 10e6 * 0.9**position)
    assert not settle(model, limit_ns=30e6).settled
    assert sum(model.turns) <= 3 * FEWEST_CALLS


@pytest.mark.parametrize("call_ms", [20, 50, 200, 1000, 10_000])
def test_long_calls_take_few(call_ms: int) -> None:
    known = settle(Model(steps(call_ms * 1e6, 0, 1)))
    fitting = -(-WINDOW_NS // (call_ms * 1_000_000))
    assert (known.calls, known.settled) == (2 * max(FEWEST_CALLS, fitting), True)


def test_cpu_time_is_what_settles_where_there_is_one() -> None:
    # A neighbor goes away: wall time halves, CPU time does not.
    disturbed = Model(steps(1e6, 50, 2), steps(1e6, 0, 1))
    assert settle(disturbed).calls == 2 * WINDOW_CALLS
    assert settle(Model(steps(1e6, 50, 2))).calls == 3 * WINDOW_CALLS


def test_a_cpu_clock_that_stands_still_is_passed_over() -> None:
    frozen = Model(steps(1e6, 50, 3), lambda position: np.zeros_like(position))
    assert settle(frozen).calls == 3 * WINDOW_CALLS


def test_getting_slower_is_settled() -> None:
    assert settle(Model(lambda position: 1e6 * 1.01**position)).calls == 2 * WINDOW_CALLS


def test_noise_costs_a_window_now_and_then() -> None:
    generator = np.random.default_rng(1)
    calls: list[int] = []
    for _ in range(300):
        noise = generator.lognormal(0, 0.1, MOST_CALLS)
        known = settle(Model(lambda position, noise=noise: 1e6 * noise[position.astype(int)]))  # type: ignore[misc]
        assert known.settled
        calls.append(known.calls)
    assert np.mean(calls) < 2.2 * WINDOW_CALLS
    assert max(calls) <= 5 * WINDOW_CALLS


@given(
    st.lists(st.floats(1e3, 2e10), min_size=1, max_size=40),
    st.floats(min_value=0, max_value=2e10),
)
def test_it_ends_within_its_bounds(levels: Sequence[float], limit_ns: float) -> None:
    times = np.array(levels)
    model = Model(lambda position: times[position.astype(int) % len(times)])
    known = settle(model, limit_ns=limit_ns)
    assert 2 * FEWEST_CALLS <= known.calls == sum(model.turns) < MOST_CALLS + WINDOW_CALLS
    longest = max(levels) * WINDOW_CALLS
    assert known.settled or known.calls >= MOST_CALLS or limit_ns < MOST_NS + longest
