"""Corruptions of text: slips of the keyboard, and the case of words.

Typing errors are swapped, dropped, doubled and neighboring letters, the four kinds of Damerau
(1964), "A technique for computer detection and correction of spelling errors". The rates are our
own: people mistype 1% to 4% of their letters, half of which they do not correct.
"""

from __future__ import annotations

import re

import numpy as np

TYPOS = (0.01, 0.02, 0.04, 0.06, 0.10)
"""Share of the letters."""
CASE = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Share of the words."""
_WORD = re.compile(r"\w+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}


def typos(text: str, share: float, random: np.random.Generator) -> str:
    """Return a text in which a share of the letters is mistyped."""
    letters = list(text)
    draws = random.random(len(letters))
    kinds = random.integers(0, 4, len(letters))
    typed: list[str] = []
    place = 0
    while place < len(letters):
        letter = letters[place]
        following = letters[place + 1] if place + 1 < len(letters) else ""
        if draws[place] >= share or not letter.isalpha():
            typed.append(letter)
        elif kinds[place] == 0 and following.isalpha():
            typed += [following, letter]
            place += 1
        elif kinds[place] == 1:
            pass  # dropped
        elif kinds[place] == 2:
            typed += [letter, letter]
        else:
            near = _NEIGHBORS.get(letter.lower(), letter)
            other = near[int(random.integers(len(near)))]
            typed.append(other.upper() if letter.isupper() else other)
        place += 1
    return "".join(typed)


def case(text: str, share: float, random: np.random.Generator) -> str:
    """Return a text in which a share of the words is in capitals, or in small letters if it was."""

    def changed(match: re.Match[str]) -> str:
        word = match[0]
        if random.random() >= share:
            return word
        return word.lower() if word.isupper() else word.upper()

    return _WORD.sub(changed, text)


EFFECTS = {
    "typos": (typos, TYPOS, "{:.0%} of the letters mistyped"),
    "case": (case, CASE, "{:.0%} of the words in the other case"),
}
"""Name to what is done, its severities and how they are put into words."""
