"""Text that has to fit: width on a terminal, wrapping, shortening and the ASCII fallback."""

from __future__ import annotations

import unicodedata

_ASCII = {
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    "µ": "u",
    "μ": "u",
    "→": "->",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "±": "+-",
    "∞": "inf",
    "·": "-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "\u00a0": " ",
}


def char_width(char: str) -> int:
    """Return the terminal columns of one printable character: 0, 1 or 2.

    Wide and fullwidth characters take two columns, combining marks none (Unicode Standard Annex
    11).
    """
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def display_width(text: str) -> int:
    """Return the terminal columns of ``text``, which must be one printable line."""
    return sum(map(char_width, text))


def one_line(text: str, *, ascii_only: bool = False) -> str:
    """Return ``text`` as one line of printable characters.

    White space is collapsed; control, format, surrogate and unassigned characters are written as
    escapes, so that no text can move the cursor or change colors. With ``ascii_only`` the
    characters that reports use have spelled equivalents and all others are escaped.
    """
    text = " ".join(text.split())
    if text.isprintable() and (not ascii_only or text.isascii()):
        return text
    out = []
    for char in text:
        if ascii_only and not char.isascii():
            char = _ASCII.get(char, char.encode("ascii", "backslashreplace").decode("ascii"))
        elif not char.isprintable():
            char = char.encode("unicode_escape", "backslashreplace").decode("ascii")
        out.append(char)
    return "".join(out)


def _prefix(text: str, width: int) -> str:
    """Return the longest prefix of ``text`` that takes at most ``width`` columns."""
    used = 0
    for index, char in enumerate(text):
        used += char_width(char)
        if used > width:
            return text[:index]
    return text


def ellipsize(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Return ``text`` in at most ``width`` columns; the middle is what is left out.

    The ends of a name say more than its middle: ``openvino-int8-…-mixed``.
    """
    if display_width(text) <= width:
        return text
    mark = "..." if ascii_only else "…"
    room = width - len(mark)
    if room < 2:
        return _prefix(text, width)
    head = _prefix(text, room - room // 2)
    tail = _prefix(text[::-1], room // 2)[::-1]
    return head + mark + tail


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return ``text`` filled with blanks to ``width`` columns; ``right`` aligns it right."""
    blanks = " " * max(0, width - display_width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, width: int, *, hanging: int = 0) -> list[str]:
    """Return ``text`` broken at blanks into lines of at most ``width`` columns.

    Args:
        text: one line.
        width: columns per line, at least ``hanging`` + 2.
        hanging: blanks before each line but the first.

    A word that is longer than a line is broken, never shortened: a path has to stay whole.
    """
    lines: list[str] = []
    current = ""
    for word in text.split():
        joined = f"{current} {word}" if current.strip() else current + word
        if display_width(joined) <= width:
            current = joined
            continue
        if current.strip():
            lines.append(current)
            current = " " * hanging
        current += word
        while display_width(current) > width:
            head = _prefix(current, width)
            lines.append(head)
            current = " " * hanging + current[len(head) :]
    if current.strip() or not lines:
        lines.append(current)
    return lines
