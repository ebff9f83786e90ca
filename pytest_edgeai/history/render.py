"""The history as a table with sparklines, for a terminal of 80 columns without color."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pytest_edgeai.history.records import Row, differences
from pytest_edgeai.history.series import Group, Series, groups_of
from pytest_edgeai.report.quantities import NOTHING, format_quantity
from pytest_edgeai.report.text import ellipsize, one_line, pad, wrap
from pytest_edgeai.report.wording import OUTCOME_WORDS

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-~=+*#"
UNSEEN = "?"
_GATE, _LAST, _OUTCOME, _TREND = 20, 11, 15, 8
_COLUMNS = 2 + _GATE + _LAST + _OUTCOME + _TREND + 2
_MOST_BARS = 60
NARROWEST = _COLUMNS + 16
"""Columns below which the table does not fit."""
_STEADY_RATIO = 0.0005


def render_history(
    rows: Sequence[Row],
    width: int,
    *,
    place: str,
    ascii_only: bool = False,
    across: Collection[str] = (),
) -> list[str]:
    """Return the history as lines of at most ``width`` columns.

    Args:
        rows: in order of time.
        width: columns of the terminal, at least ``NARROWEST``.
        place: how the reader calls the file that they come from.
        ascii_only: use no character outside of ASCII.
        across: what may differ within a line: ``host``, ``versions`` or ``threads``.
    """
    if not rows:
        return wrap(f"edge history: nothing is stored in {one_line(place)} yet", width, hanging=2)
    bars = min(_MOST_BARS, width - _COLUMNS)
    count = len({row.run_id for row in rows})
    lines = wrap(
        one_line(
            f"edge history: {_sessions(count)} from {_day(rows[0].created)} to "
            f"{_day(rows[-1].created)} in {place}",
            ascii_only=ascii_only,
        ),
        width,
        hanging=2,
    )
    if across:
        text = f"lines join sessions that differ in {', '.join(across)} (--edge-across)"
        lines += wrap(text, width, hanging=2)
    for group in groups_of(rows, across):
        lines += ["", *_heading(group, width, ascii_only)]
        if not group.apart:
            lines.append(
                "  "
                + pad("gate", _GATE)
                + pad("last", _LAST - 2, right=True)
                + "  "
                + pad("outcome", _OUTCOME)
                + pad("trend", _TREND, right=True)
                + "  "
                + _shown(max(len(series.rows) for series in group.series), bars)
            )
        for series in group.series:
            lines += _line(series, width, bars, ascii_only)
    if any(row.observed is None for row in rows):
        lines += ["", f"{UNSEEN} stands for a session that observed nothing"]
    return lines


def sparkline(values: Iterable[float | None], *, ascii_only: bool = False) -> str:
    """Return one bar per value, from the smallest (lowest) to the largest; equal values lie midway.

    ``?`` stands for ``None``.
    """
    signs = ASCII_BARS if ascii_only else BARS
    every = list(values)
    known = [value for value in every if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    top = len(signs) - 1

    def sign(value: float | None) -> str:
        if value is None:
            return UNSEEN
        return signs[round(top * (value - low) / (high - low)) if high > low else len(signs) // 2]

    return "".join(map(sign, every))


def _heading(group: Group, width: int, ascii_only: bool) -> list[str]:
    environment = group.environment
    if group.apart:
        where = f"apart, because of {', '.join(group.apart)}"
    else:
        host = environment.host
        name = host.get("cpu_model") or host.get("cpu_vendor") or host.get("architecture")
        where = f"on {name or 'an unknown processor'}, {_count(environment.threads, 'thread')}"
    text = (
        f"{group.model} {group.candidate} for {group.target}: {_sessions(group.sessions)} {where}"
    )
    return wrap(one_line(text, ascii_only=ascii_only), width, hanging=2)


def _line(series: Series, width: int, bars: int, ascii_only: bool) -> list[str]:
    last = series.rows[-1]
    gate = ellipsize(one_line(series.gate, ascii_only=ascii_only), _GATE, ascii_only=ascii_only)
    value = format_quantity(last.observed, last.unit, gate=last.gate, ascii_only=ascii_only)
    lines = [
        (
            "  "
            + pad(gate, _GATE)
            + pad(value, _LAST - 2, right=True)
            + "  "
            + pad(OUTCOME_WORDS[last.outcome], _OUTCOME)
            + pad(_trend(series), _TREND, right=True)
            + "  "
            + sparkline((row.observed for row in series.rows[-bars:]), ascii_only=ascii_only)
        ).rstrip()
    ]
    found = series.change()
    if found is None:
        return lines
    change, first = found
    before, after = (
        format_quantity(level, last.unit, gate=last.gate, ascii_only=ascii_only)
        for level in (change.before, change.after)
    )
    text = (
        f"changed at {_minute(first.created)}: median {before} before, {after} since "
        f"(p = {change.p_value:.4f}){_what_changed(series, first)}"
    )
    return lines + ["    " + line for line in wrap(text, width - 4, hanging=2)]


def _what_changed(series: Series, first: Row) -> str:
    """Return whether the files changed with the level, as far as the rows tell."""
    before = series.measured[series.measured.index(first) - 1]
    # A line of one environment has none; --edge-across joins several.
    if apart := differences(first.environment, before.environment):
        return f", with {', '.join(apart)} before"
    if first.model_sha256 != before.model_sha256:
        return ", with another model file"
    if first.artifact_sha256 != before.artifact_sha256:
        return ", with another artifact of the same model"
    return ", with the same artifact"


def _trend(series: Series) -> str:
    ratio = series.trend_ratio
    if ratio is None:
        return NOTHING
    if abs(ratio) < _STEADY_RATIO:
        return "steady"
    return f"{100 * ratio:+.1f}%" if abs(ratio) < 10 else f"{100 * ratio:+.0f}%"


def _shown(sessions: int, bars: int) -> str:
    """Return what the sparklines of a group show."""
    return f"last {bars} of {sessions}" if sessions > bars else _sessions(sessions)


def _sessions(count: int) -> str:
    return _count(count, "session")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _day(created: str) -> str:
    return created[:10]


def _minute(created: str) -> str:
    return created[:16].replace("T", " ")
