"""Rows put in lines: one per model, candidate and gate, of comparable sessions alone."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pytest_edgeai.history.change_point import ChangePoint, latest_change
from pytest_edgeai.history.records import Environment, Row, differences

SESSIONS_TESTED = 100
"""The newest sessions of a line that are searched for a change."""

NEAR_ZERO_RATIO = 0.1
"""Share of the limit below which a value is next to nothing: a drift, a growth or a tail that a
healthy model does not have wanders around zero, and so would its ratio to itself."""


@dataclass(frozen=True)
class Series:
    """One gate of one candidate over comparable sessions.

    Attributes:
        gate: name of the gate.
        rows: in order of time, at least one.
    """

    gate: str
    rows: tuple[Row, ...]

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows that observed something."""
        return tuple(row for row in self.rows if row.observed is not None)

    @property
    def trend_ratio(self) -> float | None:
        """The last value against the median of those before it, less one.

        ``None`` where the last session observed nothing, or nothing was observed before it, or the
        median is not well above zero (:data:`NEAR_ZERO_RATIO`): a share of next to nothing says
        nothing.
        """
        values = [row.observed for row in self.rows[:-1] if row.observed is not None]
        last = self.rows[-1].observed
        if last is None or not values:
            return None
        median = statistics.median(values)
        least = NEAR_ZERO_RATIO * abs(self.rows[-1].threshold or 0.0)
        return last / median - 1 if median > least else None

    def change(self) -> tuple[ChangePoint, Row] | None:
        """Return the latest change of level with the first row of the new level."""
        rows = self.measured[-SESSIONS_TESTED:]
        found = latest_change([row.observed for row in rows if row.observed is not None])
        return None if found is None else (found, rows[found.index])


@dataclass(frozen=True)
class Group:
    """One candidate in one environment.

    Attributes:
        model: name of the model.
        target: the target.
        candidate: id of the candidate, without its target.
        environment: where all of it was measured.
        apart: what distinguishes it from the candidate's newest environment; empty for that one.
        series: one per gate, in the order in which the gates first appear.
    """

    model: str
    target: str
    candidate: str
    environment: Environment
    apart: tuple[str, ...]
    series: tuple[Series, ...]

    @property
    def sessions(self) -> int:
        """Number of sessions."""
        return len({row.run_id for series in self.series for row in series.rows})


def groups_of(rows: Iterable[Row], across: Collection[str] = ()) -> tuple[Group, ...]:
    """Return the groups of all candidates; rows of different environments never share one.

    Candidates come in the order of model, target and id, and the newest environment of each first.

    Args:
        rows: in order of time.
        across: what may differ within a group all the same: ``host``, ``versions``, ``threads``.
    """
    candidates: dict[tuple[str, str, str], dict[tuple[str, str, int], list[Row]]] = {}
    for row in rows:
        environments = candidates.setdefault((row.model, row.target, row.recipe_id), {})
        # What is put in anew stands last, so that the environments end with the newest.
        key = row.environment.key(across)
        members = environments.pop(key, [])
        members.append(row)
        environments[key] = members
    groups: list[Group] = []
    for (model, target, candidate), environments in sorted(candidates.items()):
        newest_first = list(environments.values())[::-1]
        here = newest_first[0][-1].environment
        for members in newest_first:
            there = members[-1].environment
            groups.append(
                Group(
                    model,
                    target,
                    candidate,
                    there,
                    differences(here, there, across),
                    _series(members),
                )
            )
    return tuple(groups)


def _series(rows: Sequence[Row]) -> tuple[Series, ...]:
    gates: dict[str, list[Row]] = {}
    for row in rows:
        gates.setdefault(row.gate, []).append(row)
    return tuple(Series(gate, tuple(members)) for gate, members in gates.items())
