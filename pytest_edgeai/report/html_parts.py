"""The parts that the page is put together from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_edgeai.records import Outcome, Verdict
from pytest_edgeai.report.bars import THRESHOLD_AT, Bar, verdict_bar
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.palette import variable
from pytest_edgeai.report.plots import Plot
from pytest_edgeai.report.wording import OUTCOME_WORDS

OUTCOME_CLASSES: dict[Outcome, str] = {
    "pass": "good",
    "fail": "bad",
    "error": "bad",
    "inconclusive": "doubt",
    "proxy": "doubt",
    "not_applicable": "muted",
}
_GLYPHS: dict[Outcome, str] = {
    "pass": "✓",
    "fail": "✗",
    "error": "!",
    "inconclusive": "?",
    "proxy": "~",
    "not_applicable": "–",
}
_BAR_WIDTH, _BAR_HEIGHT = 160.0, 22.0


Kind: TypeAlias = Literal["text", "number", "code", "picture", "outcome"]
Layout: TypeAlias = Literal["folds", "scrolls", "stays"]
_CLASSES: dict[Kind, str | None] = {
    "text": None,
    "number": "num",
    "code": "name",
    "picture": "pic",
    "outcome": "out",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        kind: what it holds. Numbers are aligned right, code may be broken anywhere; on a phone an
            outcome stands beside the name of its row, and a picture has the whole width.
    """

    title: str
    kind: Kind = "text"

    @property
    def style(self) -> str | None:
        """The class of its cells."""
        return _CLASSES[self.kind]


def badge(outcome: Outcome) -> Markup:
    """Return an outcome as a sign and a word, in its color."""
    return mark(OUTCOME_WORDS[outcome], _GLYPHS[outcome], OUTCOME_CLASSES[outcome])


def mark(word: str, glyph: str, style: str) -> Markup:
    """Return a word behind a sign, in the color of a role."""
    sign = element("span", glyph, aria_hidden="true", class_="sign")
    return element("span", sign, word, class_=f"mark {style}")


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    label: str,
    layout: Layout = "folds",
) -> Markup:
    """Return a table.

    Args:
        columns: its columns; the first one names the rows.
        rows: their cells.
        label: what the table shows, for those who hear it.
        layout: what happens where it is too wide: its rows are folded into blocks, it scrolls by
            itself, or it stays as it is, because it is never too wide.
    """
    folds = layout == "folds"
    # What CSS folds is no table to a screen reader any more unless it says so.
    row_role, group_role = ("row", "rowgroup") if folds else (None, None)
    heads = (
        element(
            "th",
            column.title,
            scope="col",
            role="columnheader" if folds else None,
            class_=column.style,
        )
        for column in columns
    )
    body = (
        element(
            "tr",
            *(
                _cell(column, cell, first=number == 0, folds=folds)
                for number, (column, cell) in enumerate(zip(columns, row, strict=True))
            ),
            role=row_role,
        )
        for row in rows
    )
    made = element(
        "table",
        element("thead", element("tr", *heads, role=row_role), role=group_role),
        element("tbody", *body, role=group_role),
        role="table" if folds else None,
        aria_label=label,
        class_="folds" if folds else None,
    )
    if layout != "scrolls":
        return made
    return element("div", made, class_="scrolls", tabindex="0", role="region", aria_label=label)


def _cell(column: Column, cell: Child, *, first: bool, folds: bool) -> Markup:
    """Return a cell; one that can be folded knows the title of its column and is one box."""
    tag, scope = ("th", "row") if first else ("td", None)
    if not folds:
        return element(tag, cell, scope=scope, class_=column.style)
    return element(
        tag,
        element("span", cell) if cell else None,
        scope=scope,
        role="rowheader" if first else "cell",
        class_=column.style,
        data_title=None if first else column.title,
    )


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Return names with what they are, as a list; what is empty is left out."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value))
            for name, value in pairs
            if value
        ),
        class_="facts",
    )


def folded(summary: str, *children: Child, open_: bool = False) -> Markup:
    """Return content that opens on request, by the keyboard too."""
    return element("details", element("summary", summary), *children, open=open_)


def bullets(items: Iterable[Child]) -> Markup | None:
    """Return a list; nothing without items."""
    made = [element("li", item) for item in items]
    return element("ul", *made) if made else None


def code_block(text_lines: Sequence[str], label: str) -> Markup | None:
    """Return lines to copy, which scroll by themselves; nothing without lines."""
    if not text_lines:
        return None
    made = join((element("span", line) for line in text_lines), "\n")
    return element("pre", element("code", made), tabindex="0", role="region", aria_label=label)


def figure(plot: Plot | None, caption: str, data: Child, *, beside: bool = False) -> Markup | None:
    """Return a plot with its caption and its data as a table; nothing without a plot.

    Args:
        plot: the plot.
        caption: what to know about it.
        data: its figures.
        beside: whether caption and data stand beside it where there is room.
    """
    if plot is None:
        return None
    return element(
        "figure",
        plot.inline(),
        element("figcaption", caption),
        folded(f"Data: {plot.title}", data),
        class_="beside" if beside else None,
    )


def verdict_picture(verdict: Verdict) -> Markup | None:
    """Return the interval against the threshold; the cells beside it say the same in words."""
    return picture(verdict_bar(verdict), verdict.outcome)


def picture(bar: Bar | None, outcome: Outcome) -> Markup | None:
    """Return a bar as SVG; nothing without one."""
    if bar is None:
        return None
    color = variable(OUTCOME_CLASSES[outcome])
    middle, half = THRESHOLD_AT * _BAR_WIDTH, _BAR_HEIGHT / 2
    shapes = [
        f'<path d="M0 {half:g}H{_BAR_WIDTH:g}" stroke="{variable("rule")}"/>',
        f'<path d="M{middle:g} 2h{_BAR_WIDTH - middle:g}v{_BAR_HEIGHT - 4:g}H{middle:g}z" '
        f'fill="{variable("shade")}"/>',
    ]
    if bar.has_interval:
        low = 0.0 if bar.low is None else bar.low * _BAR_WIDTH
        high = _BAR_WIDTH if bar.high is None else bar.high * _BAR_WIDTH
        caps = "".join(
            f"M{place:.1f} {half - 5:g}v10"
            for place, known in ((low, bar.low), (high, bar.high))
            if known is not None
        )
        shapes.append(
            f'<path d="M{low:.1f} {half:g}H{high:.1f}{caps}" stroke="{color}" stroke-width="2" '
            'fill="none"/>'
        )
    shapes.append(
        f'<path d="M{middle:g} 0v{_BAR_HEIGHT:g}" stroke="{variable("ink")}" stroke-width="1.5"/>'
    )
    if bar.observed is not None:
        shapes.append(_shape(bar.observed * _BAR_WIDTH, half, outcome, color))
    return Markup(
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH:g} {_BAR_HEIGHT:g}" aria-hidden="true" '
        f'focusable="false" preserveAspectRatio="xMinYMid">{"".join(shapes)}</svg>'
    )


def _shape(x: float, y: float, outcome: Outcome, color: str) -> str:
    """Return a circle for a pass, a cross for a failure, a square for what is undecided."""
    role = OUTCOME_CLASSES[outcome]
    if role == "good":
        return f'<circle cx="{x:.1f}" cy="{y:g}" r="5" fill="{color}"/>'
    if role == "bad":
        return (
            f'<path d="M{x - 4.5:.1f} {y - 4.5:g}l9 9m0 -9l-9 9" stroke="{color}" '
            'stroke-width="3" fill="none"/>'
        )
    return f'<path d="M{x - 4.5:.1f} {y - 4.5:g}h9v9h-9z" fill="{color}"/>'
