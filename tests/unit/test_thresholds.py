from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import UserError
from pytest_edgeai.shipped import GATES
from pytest_edgeai.thresholds import SIZE_UNITS, marker_limit, parse_limit, resolve_threshold

SPEED, SIZE = GATES["speedup"], GATES["artifact_size"]


@pytest.mark.parametrize("raw", [False, "off", " OFF "])
def test_off(raw: object) -> None:
    assert parse_limit(SPEED, raw, "here") is None


@given(
    st.sampled_from(sorted(GATES)), st.floats() | st.integers() | st.text(max_size=12) | st.none()
)
def test_a_limit_is_finite_and_in_range_or_refused(gate: str, raw: object) -> None:
    limit, refusal = None, ""
    try:
        limit = parse_limit(GATES[gate], raw, "here")
    except UserError as error:
        refusal = str(error)
    assert not refusal or (refusal.startswith("here: ") and "allowed: " in refusal)
    if limit is not None:
        assert math.isfinite(limit)
        assert GATES[gate].lowest <= limit <= GATES[gate].highest


@given(st.integers(1, 10**6), st.sampled_from(sorted(SIZE_UNITS)), st.booleans())
def test_sizes_have_units(number: int, unit: str, upper: bool) -> None:
    text = f"{number} {unit.upper() if upper else unit}"
    assert parse_limit(SIZE, text, "here") == number * SIZE_UNITS[unit]


def test_only_sizes_have_units() -> None:
    assert parse_limit(SIZE, "1.5 MB", "here") == 1_500_000
    assert parse_limit(SIZE, "1MiB", "here") == 2**20
    with pytest.raises(UserError, match="is not a number"):
        parse_limit(SPEED, "2 MB", "here")


@pytest.mark.parametrize("gate", sorted(GATES))
def test_defaults_are_limits_that_could_be_set(gate: str) -> None:
    default = GATES[gate].threshold
    if default is not None:
        assert parse_limit(GATES[gate], default, "here") == default


def test_markers_use_the_gates_own_relation() -> None:
    assert marker_limit(SPEED, {}, "here") is None
    assert marker_limit(SPEED, {"at_least": 3}, "here") == 3.0
    with pytest.raises(
        UserError, match='unknown argument "at_most" for gate "speedup"; allowed: at_least'
    ):
        marker_limit(SPEED, {"at_most": 3}, "here")
    with pytest.raises(UserError, match="cannot be switched off here"):
        marker_limit(SPEED, {"at_least": False}, "here")
    with pytest.raises(UserError, match="is not finite"):
        marker_limit(SPEED, {"at_least": math.nan}, "here")
    with pytest.raises(UserError) as refused:
        marker_limit(SPEED, {"at_least": -1}, "edge_gate")
    assert str(refused.value) == (
        "edge_gate speedup at_least: -1 is out of range; allowed: a number above 0"
    )


@pytest.mark.parametrize(
    ("marker", "command_line", "model", "shared", "expected"),
    [
        (5.0, "4", 3, 2.5, (5.0, "marker")),
        (None, "4", 3, 2.5, (4.0, "--edge-threshold")),
        (None, None, 3, 2.5, (3.0, "edgeai.toml")),
        (None, None, None, 2.5, (2.5, "edgeai.toml")),
        (None, None, None, None, (2.0, "default")),
        (None, None, False, 2.5, (None, "edgeai.toml")),
    ],
    ids=["marker", "flag", "model", "shared", "default", "off"],
)
def test_the_nearest_layer_wins(
    marker: float | None,
    command_line: str | None,
    model: object,
    shared: object,
    expected: tuple[float | None, str],
) -> None:
    threshold, on = resolve_threshold(
        SPEED,
        marker=marker,
        command_line={} if command_line is None else {"speedup": command_line},
        command_line_origin="--edge-threshold",
        model_table={} if model is None else {"speedup": model},
        defaults_table={} if shared is None else {"speedup": shared},
        manifest_name="edgeai.toml",
    )
    assert (threshold.value, threshold.origin) == expected
    assert on == (expected[0] is not None)
    assert threshold.relation == "at_least"
