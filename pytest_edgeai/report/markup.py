"""HTML that cannot be broken out of: text is escaped unless it was made here."""

from __future__ import annotations

import html
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from pytest_edgeai.report.text import one_line


class Markup(str):
    """Text that is HTML already; any other string is escaped where it becomes a child."""

    __slots__ = ()


Child: TypeAlias = str | None
"""``Markup`` as it is, any other string as text, ``None`` as nothing."""

_VOID = frozenset({"meta", "br", "col", "hr"})


@lru_cache(maxsize=4096)
def text(value: str) -> Markup:
    """Return ``value`` as text of one line; characters that nobody can see are spelled out."""
    return Markup(html.escape(one_line(value), quote=True))


def element(tag: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Return one element.

    Args:
        tag: its name.
        children: what it contains, see ``Child``.
        attributes: a trailing underscore is dropped (``class_``), other underscores are hyphens;
            ``None`` and ``False`` leave an attribute out, ``True`` writes it without a value.
    """
    written = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(key if value is True else f'{key}="{text(str(value))}"')
    opening = f"<{' '.join(written)}>"
    if tag in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Child], between: str = "") -> Markup:
    """Return several children one after the other."""
    return Markup(
        between.join(
            child if isinstance(child, Markup) else text(child)
            for child in children
            if child is not None
        )
    )


def lines(values: Iterable[str]) -> Markup:
    """Return text of several lines, each escaped by itself."""
    return join(map(text, values), "\n")
