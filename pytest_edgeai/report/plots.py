"""Plots as SVG that follow the colors around them: drawn by matplotlib, without pyplot.

Matplotlib draws with stand-in colors, one per role of the palette; in the SVG these become CSS
variables. Text stays text. No text of a user is drawn unless a function says so: names stand in the
page, where they are escaped, wrapped and read aloud.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from pytest_edgeai.report.markup import Markup, element, text
from pytest_edgeai.report.palette import Palette, style_sheet, variable

WIDTH_PT = 330.0
"""Width of every plot: that of a phone, so that text is never scaled below its size there."""

ROLES = tuple(field.name for field in fields(Palette))
STAND_INS = {role: f"#0103{number + 1:02x}" for number, role in enumerate(ROLES)}
"""Role to the color that matplotlib draws it in."""

_STAND_IN = re.compile("|".join(STAND_INS.values()))
_BY_COLOR = {color: variable(role) for role, color in STAND_INS.items()}
_FONT = "DejaVu Sans"
FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pytest-edgeai",
    "font.family": ["sans-serif"],
    "font.sans-serif": [_FONT],
    "font.size": 10.5,
    "text.color": STAND_INS["ink"],
    "figure.facecolor": "none",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Plot:
    """One finished plot.

    Attributes:
        key: distinguishes it from the other plots of a page; letters, digits and hyphens.
        title: what it shows, in a few words.
        description: what a reader sees in it, for those who do not see it.
        body: its SVG without the outer element, in CSS variables of the palette.
        width_pt: its width.
        height_pt: its height.
    """

    key: str
    title: str
    description: str
    body: str
    width_pt: float
    height_pt: float

    def inline(self) -> Markup:
        """Return it as part of a page that has the palette."""
        return self._svg("", "")

    def standalone(self) -> str:
        """Return it as a file of its own, with the palette and something behind it.

        A page that shows it as an image may be light where the reader's system is dark, so it
        cannot be transparent.
        """
        behind = element("rect", width="100%", height="100%", fill=variable("page"))
        sheet = Markup(f"<style>{style_sheet()}</style>")
        return self._svg(' xmlns="http://www.w3.org/2000/svg"', sheet + behind) + "\n"

    def _svg(self, namespace: str, first: str) -> Markup:
        size = f"0 0 {self.width_pt:g} {self.height_pt:g}"
        return Markup(
            f'<svg{namespace} class="plot" role="img" viewBox="{size}" width="{self.width_pt:g}" '
            f'font-family="{FONTS}" '
            f'height="{self.height_pt:g}" aria-labelledby="{self.key}-title" '
            f'aria-describedby="{self.key}-text">'
            f'<title id="{self.key}-title">{text(self.title)}</title>'
            f'<desc id="{self.key}-text">{text(self.description)}</desc>'
            f"{first}{self.body}</svg>"
        )


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in our style, whatever a user's matplotlibrc says, and leave theirs as it was."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A name may have characters that the font lacks; the reader's browser has them.
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(height_pt: float, *, width_pt: float = WIDTH_PT) -> Figure:
    """Return an empty figure; sizes in points, which are pixels in a page."""
    return Figure(figsize=(width_pt / 72, height_pt / 72), dpi=72, frameon=False)


def add_axes(
    figure: Figure, left: float, bottom: float, right: float, top: float, **settings: Any
) -> Axes:
    """Add bare axes with the given margins in points; what they show is drawn by `ruler`."""
    width, height = (inches * 72 for inches in figure.get_size_inches())
    box = (left / width, bottom / height, (width - left - right) / width,
           (height - bottom - top) / height)  # fmt: skip
    axes = figure.add_axes(box, **settings)
    # Matplotlib's own ticks take most of the time of a small plot; see `ruler`.
    axes.set_axis_off()
    return axes


def finish(figure: Figure, key: str, title: str, description: str) -> Plot:
    """Return the plot of a figure that was drawn inside of :func:`drawing`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call]
    width, height = (inches * 72 for inches in figure.get_size_inches())
    return Plot(key, title, description, _body(buffer.getvalue(), key), width, height)


def _body(svg: str, key: str) -> str:
    """Return what stands inside of the outer element, for a page that has other plots too."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    start = svg.index(">", svg.index("<svg")) + 1
    inner = svg[start : svg.rindex("</svg>")]
    inner = re.sub(r"<defs>\s*</defs>", "", inner)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', inner))
    inner = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", inner)
    inner = re.sub(r'xlink:href="#', f'href="#{key}-', inner)
    inner = re.sub(r"url\(#", f"url(#{key}-", inner)
    inner = _STAND_IN.sub(lambda m: _BY_COLOR[m[0]], inner)
    inner = re.sub(rf"font-family: '{_FONT}'(?:, sans-serif)?; ", "", inner)
    inner = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", inner)
    return re.sub(r"\s*\n\s*", "\n", inner).strip()


def draw(
    key: str, title: str, description: str, height_pt: float, paint: Callable[[Figure], None]
) -> Plot:
    """Return the plot that ``paint`` makes of an empty figure."""
    with drawing():
        figure = new_figure(height_pt)
        paint(figure)
        return finish(figure, key, title, description)


def ruler(
    axes: Axes,
    which: Literal["x", "y"],
    places: Sequence[float],
    words: Sequence[str],
    label: str = "",
    *,
    away_pt: float = 20.0,
    has_line: bool = True,
    has_grid: bool = True,
) -> None:
    """Draw an axis below or left of finished limits: its line, a faint grid, words and a label.

    Args:
        axes: with limits that do not change any more.
        which: the axis.
        places: where its words stand, in data coordinates.
        words: as many.
        label: what it measures.
        away_pt: how far away the label begins.
        has_line: whether its line is drawn.
        has_grid: whether faint lines lead through the axes.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None

    def moved(points: float) -> ScaledTranslation:
        offset = (0.0, -points / 72) if which == "x" else (-points / 72, 0.0)
        return ScaledTranslation(*offset, figure.dpi_scale_trans)

    along = axes.get_xaxis_transform() if which == "x" else axes.get_yaxis_transform()
    if has_grid:
        ends = [[(at, 0), (at, 1)] if which == "x" else [(0, at), (1, at)] for at in places]
        lines = LineCollection(
            ends, transform=along, colors=STAND_INS["rule"], linewidths=0.6, zorder=0.5
        )
        axes.add_collection(lines, autolim=False)
    if has_line:
        end = (1, 0) if which == "x" else (0, 1)
        line = LineCollection(
            [[(0, 0), end]], transform=axes.transAxes, colors=STAND_INS["muted"], linewidths=0.8
        )
        axes.add_collection(line, autolim=False)
    for at, word in zip(places, words, strict=True):
        x, y = (at, 0.0) if which == "x" else (0.0, at)
        axes.text(x, y, word, transform=along + moved(5), fontsize=10, **_STANDING[which])
    if label:
        x, y = (0.5, 0.0) if which == "x" else (0.0, 0.5)
        axes.text(
            x,
            y,
            label,
            transform=axes.transAxes + moved(away_pt),
            ha="center",
            va="top" if which == "x" else "center",
            rotation=0 if which == "x" else 90,
        )


_STANDING: dict[str, dict[str, Any]] = {
    "x": {"ha": "center", "va": "top"},
    "y": {"ha": "right", "va": "center"},
}


def round_places(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two, about ``most``."""
    return [float(at) for at in MaxNLocator(most).tick_values(low, high) if low <= at <= high]
