"""The colors of the page and its plots, by role, for light and for dark surroundings.

Every role has a shape or a word beside it, so that no meaning rests on a color alone. Contrasts
meet WCAG 2.2 AA: 4.5 to 1 for text (criterion 1.4.3), 3 to 1 for lines and marks that mean
something (1.4.11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

TEXT_ROLES = ("ink", "muted", "link", "good", "bad", "doubt", "baseline", "candidate")
"""Roles that text is written in, on ``page`` and on ``panel``."""
MARK_ROLES = ("good", "bad", "doubt", "baseline", "candidate", "muted")
"""Roles that lines and marks of a plot are drawn in."""


@dataclass(frozen=True)
class Palette:
    """One color per role, as ``#rrggbb``.

    Attributes:
        page: behind everything.
        panel: behind tables and plots.
        ink: text.
        muted: text that explains, axes.
        rule: lines that separate and mean nothing else.
        shade: the part of a scale that meets a threshold.
        link: links and what has the keyboard's focus.
        good: what passed.
        bad: what failed.
        doubt: what could not be decided.
        baseline: the model as it is deployed today.
        candidate: what was made of it.
    """

    page: str
    panel: str
    ink: str
    muted: str
    rule: str
    shade: str
    link: str
    good: str
    bad: str
    doubt: str
    baseline: str
    candidate: str

    def roles(self) -> Mapping[str, str]:
        """Return role to color."""
        return asdict(self)


LIGHT = Palette(
    page="#ffffff",
    panel="#f6f8fa",
    ink="#1b1f24",
    muted="#57606a",
    rule="#d0d7de",
    shade="#dceee0",
    link="#0550ae",
    good="#116329",
    bad="#a40e26",
    doubt="#7d4e00",
    baseline="#9a4a00",
    candidate="#0550ae",
)
DARK = Palette(
    page="#0d1117",
    panel="#161b22",
    ink="#e6edf3",
    muted="#9da7b3",
    rule="#3a424c",
    shade="#17351f",
    link="#79c0ff",
    good="#56d364",
    bad="#ff8f87",
    doubt="#e3b341",
    baseline="#ffa657",
    candidate="#79c0ff",
)


def variable(role: str) -> str:
    """Return the CSS expression of a role."""
    return f"var(--{role})"


def style_sheet() -> str:
    """Return the CSS that gives every role its color in light and in dark surroundings."""

    def block(palette: Palette) -> str:
        return "".join(f"--{role}:{color};" for role, color in palette.roles().items())

    return (
        f":root{{color-scheme:light dark;{block(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{block(DARK)}}}}}"
    )
