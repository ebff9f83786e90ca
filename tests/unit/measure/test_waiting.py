from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.measure.waiting import LARGEST_WAITING_SHARE, SHORTEST_WAIT_S, Patience


def test_waits_double_until_their_share_is_used_up() -> None:
    patience = Patience(60.0)
    waits = [patience.wait_s(contended=True) for _ in range(8)]
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.5, 0.0, 0.0, 0.0])


def test_a_quiet_stretch_makes_the_next_wait_short_again() -> None:
    patience = Patience(600.0)
    assert [patience.wait_s(contended=busy) for busy in (True, True, False, True, False)] == [
        SHORTEST_WAIT_S,
        2 * SHORTEST_WAIT_S,
        0.0,
        SHORTEST_WAIT_S,
        0.0,
    ]


@given(st.floats(0, 1000), st.lists(st.booleans(), max_size=60))
def test_all_waits_together_stay_within_their_share(budget_s: float, busy: list[bool]) -> None:
    patience = Patience(budget_s)
    waits = [patience.wait_s(contended=contended) for contended in busy]
    assert sum(waits) <= LARGEST_WAITING_SHARE * budget_s * (1 + 1e-9)
    for contended, wait_s in zip(busy, waits, strict=True):
        assert wait_s == 0 or (contended and wait_s >= SHORTEST_WAIT_S)
