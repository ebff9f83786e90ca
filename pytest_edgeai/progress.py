"""Show what long work is doing: which model, which step, how far, how long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

REPEAT_AFTER_S = 10.0
REDRAW_AFTER_S = 0.1
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Display(Protocol):
    """Where progress appears."""

    def line(self, text: str) -> bool:
        """Write a line that stays; return whether this display has such lines."""
        ...

    def status(self, text: str) -> bool:
        """Replace the one line that does not stay; return whether this display has such a line."""
        ...

    def clear(self) -> None:
        """Remove the line that does not stay."""
        ...


class Silent:
    """A display that shows nothing."""

    def line(self, text: str) -> bool:
        """Show nothing."""
        return False

    def status(self, text: str) -> bool:
        """Show nothing."""
        return False

    def clear(self) -> None:
        """There is nothing to remove."""


class Progress:
    """Shows each step once, and again every ten seconds while it goes on.

    A step is told by its words: numbers in it (``calibrating, 3 of 200``) say how far it is and
    make no other step. On a display with a status line, that line follows every change instead.
    """

    def __init__(
        self, display: Display | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show steps on ``display``; ``clock`` returns seconds."""
        self._display: Display = display or Silent()
        self._clock = clock
        self._notes: list[str] = []
        self._step = ("", "")
        self._started = 0.0
        self._written = 0.0
        self._drawn = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the report should know."""
        return tuple(self._notes)

    def step(
        self, subject: str, what: str, fraction: float | None = None, detail: str = ""
    ) -> None:
        """Say that ``subject`` is at ``what``; ``fraction`` is how much of it is done.

        ``detail`` is what a display with a status line says beside it: it changes too often for a
        log, and makes no other step.
        """
        now = self._clock()
        step = (subject, _NUMBER.sub("#", what))
        fresh = step != self._step
        if fresh:
            self._step, self._started = step, now
        elif now - self._drawn < REDRAW_AFTER_S:
            return
        text = f"{subject}: {what}"
        if not fresh:
            share = "" if fraction is None else f" {fraction:.0%}"
            text += f"{share}, {now - self._started:.0f} s"
        self._drawn = now
        if self._display.status(f"{text}: {detail}" if detail else text):
            return
        if fresh or now - self._written >= REPEAT_AFTER_S:
            self._written = now
            self._display.line(text)

    def say(self, text: str) -> None:
        """Show a sentence at once, and keep it for the report."""
        if text not in self._notes:
            self.show(text)
        self.note(text)

    def show(self, text: str) -> None:
        """Show a sentence at once, and keep it nowhere."""
        self._display.clear()
        self._display.line(text)

    def clear(self) -> None:
        """Remove what does not stay on the display, so that others can write there."""
        self._display.clear()

    def note(self, text: str) -> None:
        """Keep a sentence for the report; each is kept once."""
        if text not in self._notes:
            self._notes.append(text)
