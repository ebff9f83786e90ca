from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.report.tables import Column, layout
from pytest_edgeai.report.text import display_width, ellipsize, one_line, pad, wrap

LINES = st.text(max_size=80).map(one_line)


def test_widths_are_terminal_columns() -> None:
    assert display_width("abc") == 3
    assert display_width("名前") == 4
    assert display_width("e\u0301") == 1


def test_no_text_can_control_the_terminal() -> None:
    assert one_line("a\x1b[31mb\n\tc\x00") == "a\\x1b[31mb c\\x00"
    assert one_line("\u202eabc") == "\\u202eabc"


def test_ascii_spells_what_reports_use() -> None:
    assert one_line("2.0× ≥ 1 µs → …", ascii_only=True) == "2.0x >= 1 us -> ..."


def test_a_name_loses_its_middle() -> None:
    assert ellipsize("openvino-int8-static-mixed", 12) == "openvi…mixed"
    assert ellipsize("openvino-int8-static-mixed", 12, ascii_only=True) == "openv...ixed"
    assert ellipsize("short", 12) == "short"


def test_a_path_is_broken_and_never_shortened() -> None:
    path = "/".join(["directory"] * 12)
    lines = wrap(f"evidence: {path}", 40, hanging=2)
    assert "".join(line.strip() for line in lines).replace("evidence:", "").strip() == path


@given(st.text(max_size=100), st.booleans())
def test_one_line_is_printable(text: str, ascii_only: bool) -> None:
    line = one_line(text, ascii_only=ascii_only)
    assert line.isprintable()
    assert not ascii_only or line.isascii()
    assert one_line(line, ascii_only=ascii_only) == line


@given(LINES, st.integers(1, 60), st.booleans())
def test_ellipsize_keeps_the_width(text: str, width: int, ascii_only: bool) -> None:
    assert display_width(ellipsize(text, width, ascii_only=ascii_only)) <= width


@given(LINES, st.integers(8, 60), st.integers(0, 4))
def test_wrap_keeps_the_width_and_every_character(text: str, width: int, hanging: int) -> None:
    lines = wrap(text, width, hanging=hanging)
    assert all(display_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(LINES, st.integers(0, 60), st.booleans())
def test_pad_fills(text: str, width: int, right: bool) -> None:
    assert display_width(pad(text, width, right=right)) == max(width, display_width(text))


@given(
    st.lists(st.lists(LINES, min_size=3, max_size=3), max_size=4),
    st.integers(30, 120),
)
def test_a_table_keeps_the_width_and_has_a_block_per_row(rows: list[list[str]], width: int) -> None:
    columns = (Column("first"), Column("second", right=True), Column("third", rank=1))
    blocks = layout(columns, rows, width)
    assert len(blocks) == len(rows) + 1
    assert all(display_width(line) <= width for block in blocks for line in block)


def test_columns_are_dropped_by_rank_where_space_is_short() -> None:
    columns = [Column(f"column{i}", min_width=8, rank=i) for i in range(4)]
    rows = [["x" * 8] * 4]
    assert layout(columns, rows, 80)[0][0].split() == ["column0", "column1", "column2", "column3"]
    assert layout(columns, rows, 32)[0][0].split() == ["column0", "column1", "column2"]
    assert layout(columns, rows, 20)[0][0].split() == ["column0", "column1"]


@pytest.mark.parametrize("width", [12, 20])
def test_a_cell_that_is_too_wide_continues_below(width: int) -> None:
    blocks = layout([Column("a"), Column("b")], [["one two three", "x"]], width)
    assert " ".join(line.split("x")[0].strip() for line in blocks[1]) == "one two three"
