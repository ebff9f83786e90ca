"""The table: 80 columns, no color, one line per model, candidate and gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pytest_edgeai.history.records import Environment, Row
from pytest_edgeai.history.render import ASCII_BARS, BARS, NARROWEST, render_history, sparkline
from pytest_edgeai.report.text import display_width

RowOf = Callable[..., Row]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_bars_rise_with_the_values(ascii_only: bool) -> None:
    bars = ASCII_BARS if ascii_only else BARS
    assert sparkline(range(8), ascii_only=ascii_only) == bars
    assert sparkline([3.0, None, 1.0], ascii_only=ascii_only) == bars[7] + "?" + bars[0]
    assert sparkline([2.0, 2.0], ascii_only=ascii_only) == bars[4] * 2
    assert sparkline([None], ascii_only=ascii_only) == "?"
    assert sparkline([], ascii_only=ascii_only) == ""


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [NARROWEST, 80, 200])
def test_the_table_fits_and_says_everything(
    row_of: RowOf, environment: Environment, width: int, ascii_only: bool
) -> None:
    old = dataclasses.replace(environment, versions={"onnxruntime": "1.30.0", "python": "3.11.7"})
    values = [4.6, 4.7, 4.65, 4.61, 4.66, 4.64, 4.62, 4.63, 3.1, 3.12, 3.13, 3.11, 3.14, 3.15]
    rows = [row_of(0, observed=9.9, environment=old)]
    for number, value in enumerate(values, 1):
        digest = "d1" * 32 if value > 4 else "d2" * 32
        rows.append(row_of(number, observed=value, model_sha256=digest))
        rows.append(
            row_of(
                number,
                gate="a_gate_of_somebody_with_a_long_name",
                observed=5_089_139,
                unit="bytes",
                outcome="inconclusive",
            )
        )
    rows.append(row_of(20, gate="memory_cut", observed=None, outcome="error"))
    lines = render_history(rows, width, place=".edgeai/history.sqlite3", ascii_only=ascii_only)
    text = " ".join(" ".join(lines).split())
    assert all(display_width(line) <= width for line in lines)
    assert text.isascii() or not ascii_only
    assert "16 sessions from 2026-01-01 to 2026-01-01" in text
    assert "15 sessions on CPU A, 1 thread" in text
    assert "1 session apart, because of onnxruntime 1.30.0 instead of 1.31.1" in text
    times = "x" if ascii_only else "×"
    assert f"median 4.63{times} before, 3.12{times} since (p = 0.0020), with another model" in text
    (speed, apart) = [line for line in lines if line.startswith("  speedup")]
    assert speed.split()[1:4] == [f"3.15{times}", "pass", "-31.7%"]
    assert apart.split()[1:4] == [f"9.90{times}", "pass", "-"]
    (memory,) = [line for line in lines if line.startswith("  memory_cut")]
    assert memory.split() == ["memory_cut", "-", "ERROR", "-", "?"]
    (size,) = [line for line in lines if "4.85 MiB" in line]
    assert size.split()[-2] == "steady"
    assert lines[-1].startswith("? stands for")


def test_what_changed_with_the_level(row_of: RowOf) -> None:
    def text(**changes: str) -> str:
        rows = [row_of(i, observed=4.0) for i in range(6)]
        rows += [row_of(i, observed=2.0, **changes) for i in range(6, 12)]
        return " ".join(" ".join(render_history(rows, 80, place="h")).split())

    assert "with the same artifact" in text()
    assert "with another artifact of the same model" in text(artifact_sha256="b2" * 32)
    assert "with another model file" in text(model_sha256="b2" * 32)


@pytest.mark.parametrize(
    ("sessions", "heading"),
    [(1, "1 session"), (22, "22 sessions"), (23, "last 22 of 23"), (60, "last 22 of 60")],
)
def test_the_heading_says_what_is_shown(row_of: RowOf, sessions: int, heading: str) -> None:
    lines = render_history([row_of(i, observed=2.0) for i in range(sessions)], 80, place="h")
    (head,) = [line for line in lines if line.startswith("  gate ")]
    (speed,) = [line for line in lines if line.startswith("  speedup")]
    assert head.endswith(f"  {heading}")
    assert len(speed.split()[-1]) == min(22, sessions)


def test_nothing_is_stored() -> None:
    (line,) = render_history([], 80, place="x/history.sqlite3")
    assert line == "edge history: nothing is stored in x/history.sqlite3 yet"


def test_names_cannot_move_the_cursor(row_of: RowOf) -> None:
    row = row_of(0, model="di\x1b[2Jgits", candidate="x\nfake", gate="sp\red")
    assert not any(
        character in line
        for line in render_history([row], 80, place="\x1b")
        for character in "\x1b\n\r"
    )
