"""Plain-text tables that keep within a width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_edgeai.report.text import display_width, ellipsize, pad, wrap


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        right: whether cells are aligned right.
        min_width: columns of the terminal that it keeps when space is short.
        rank: columns of the highest rank are dropped first where even the minimum does not fit; 0
            is never dropped.
    """

    title: str
    right: bool = False
    min_width: int = 6
    rank: int = 0


def _fit(natural: list[int], minimum: list[int], room: int) -> list[int]:
    """Return widths that add up to at most ``room``; the widest column gives first."""
    widths = list(natural)
    while sum(widths) > room:
        shrinkable = [i for i, w in enumerate(widths) if w > min(minimum[i], natural[i])]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda i: widths[i])] -= 1
    return widths


def _cell_lines(text: str, width: int, ascii_only: bool) -> list[str]:
    words = " ".join(ellipsize(word, width, ascii_only=ascii_only) for word in text.split(" "))
    return wrap(words, max(width, 2))


def layout(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    indent: int = 2,
    gap: int = 2,
    ascii_only: bool = False,
) -> list[list[str]]:
    """Return the lines of the heading and of each row.

    Args:
        columns: the columns, from left to right.
        rows: one cell per column each; cells are single lines of printable text.
        width: columns of the terminal that no line exceeds.
        indent: blanks before each line.
        gap: blanks between columns.
        ascii_only: whether a shortened word shows ``...`` instead of ``…``.

    Returns:
        One list of lines for the heading, then one per row. A cell that is too wide continues on
        the next line, and a word that is too wide loses its middle. Columns are left out, highest
        rank first, where their minimum widths do not fit.
    """
    kept = list(range(len(columns)))
    table = [[c.title for c in columns], *[list(row) for row in rows]]
    natural = [max(display_width(row[i]) for row in table) for i in range(len(columns))]

    def needed() -> int:
        least = sum(min(columns[i].min_width, natural[i]) for i in kept)
        return least + gap * (len(kept) - 1) + indent

    while needed() > width and any(columns[i].rank for i in kept):
        kept.remove(max(kept, key=lambda i: columns[i].rank))
    widths = _fit(
        [natural[i] for i in kept],
        [columns[i].min_width for i in kept],
        width - indent - gap * (len(kept) - 1),
    )
    blocks = []
    for row in table:
        cells = [_cell_lines(row[i], w, ascii_only) for i, w in zip(kept, widths, strict=True)]
        block = []
        for line in range(max(map(len, cells))):
            parts = [
                pad(cell[line] if line < len(cell) else "", w, right=columns[i].right)
                for i, cell, w in zip(kept, cells, widths, strict=True)
            ]
            block.append((" " * indent + (" " * gap).join(parts)).rstrip())
        blocks.append(block)
    return blocks
