"""Lines of comparable sessions, and never of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pytest_edgeai.history.records import Environment, Row
from pytest_edgeai.history.series import Series, groups_of

RowOf = Callable[..., Row]


def test_other_environments_stand_apart_with_their_differences(
    row_of: RowOf, environment: Environment
) -> None:
    old = dataclasses.replace(environment, versions={**environment.versions, "python": "3.10"})
    wide = dataclasses.replace(environment, threads=4)
    rows = [
        row_of(0, environment=old),
        row_of(1, environment=wide),
        row_of(2),
        row_of(3, environment=old),
        row_of(4),
        row_of(5, candidate="another"),
    ]
    groups = groups_of(rows)
    assert [(group.candidate, group.apart) for group in groups] == [
        ("another", ()),
        ("onnxruntime-int8-static", ()),
        ("onnxruntime-int8-static", ("python 3.10 instead of 3.11.7",)),
        ("onnxruntime-int8-static", ("threads 4 instead of 1",)),
    ]
    numbers = [[row.run_id for row in group.series[0].rows] for group in groups]
    assert numbers == [["run-5"], ["run-2", "run-4"], ["run-0", "run-3"], ["run-1"]]
    assert [group.sessions for group in groups] == [1, 2, 2, 1]


def test_lines_are_joined_across_what_the_run_is_made_to_compare(
    row_of: RowOf, environment: Environment
) -> None:
    old = dataclasses.replace(environment, versions={**environment.versions, "python": "3.10"})
    wide = dataclasses.replace(old, threads=4)
    rows = [row_of(i, observed=1.0, environment=old) for i in range(10)]
    rows += [row_of(i, observed=3.0) for i in range(10, 20)]
    rows.append(row_of(20, environment=wide))
    assert [group.sessions for group in groups_of(rows)] == [1, 10, 10]
    joined = groups_of(rows, ("versions",))
    assert [(group.sessions, group.apart) for group in joined] == [
        (1, ()),
        (20, ("threads 1 instead of 4",)),
    ]
    assert joined[1].series[0].change() is not None
    assert [group.sessions for group in groups_of(rows, ("versions", "threads"))] == [21]


def test_a_change_between_two_hosts_is_no_change(row_of: RowOf, environment: Environment) -> None:
    other = dataclasses.replace(environment, host={**environment.host, "cpu_model": "CPU B"})
    rows = [row_of(i, observed=1.0, environment=other) for i in range(15)]
    rows += [row_of(i, observed=3.0) for i in range(15, 30)]
    assert [each.change() for group in groups_of(rows) for each in group.series] == [None, None]
    joined = Series("speedup", tuple(rows)).change()
    assert joined is not None
    assert joined[1].run_id == "run-15"


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ((2.0,), None),
        ((2.0, 4.0, 3.0, 6.0), 1.0),
        ((None, 2.0, 1.0), -0.5),
        ((2.0, None), None),
        ((0.0, 0.0, 3.0), None),
        # A tenth of the limit of 1.5 is next to nothing.
        ((0.1, 0.1, -0.2), None),
        ((-0.3, -0.3, 0.3), None),
        ((0.2, 0.2, 0.1), -0.5),
    ],
)
def test_the_trend_is_the_last_value_against_the_median_before(
    row_of: RowOf, values: tuple[float | None, ...], trend: float | None
) -> None:
    rows = tuple(row_of(i, observed=value) for i, value in enumerate(values))
    assert Series("speedup", rows).trend_ratio == trend


def test_sessions_that_observed_nothing_take_no_part_in_a_change(row_of: RowOf) -> None:
    values = [1.0, None, 1.0, 1.0, 1.0, 1.0, None, 2.0, 2.0, None, 2.0, 2.0, 2.0]
    rows = tuple(row_of(i, observed=value) for i, value in enumerate(values))
    found = Series("speedup", rows).change()
    assert found is not None
    assert (found[0].index, found[1].run_id) == (5, "run-7")


def test_the_newest_rows_of_a_group(row_of: RowOf) -> None:
    (group,) = groups_of([row_of(0), row_of(1, gate="memory_cut"), row_of(2)])
    assert [each.gate for each in group.series] == ["speedup", "memory_cut"]
    assert group.sessions == 3
