"""Show what long work is doing: which model, which step, how far, how long."""

from __future__ import annotations

import time
from collections.abc import Callable

REPEAT_AFTER_S = 10.0


class Progress:
    """Writes one line per step, and again every ten seconds while a step goes on."""

    def __init__(self, write: Callable[[str], None] = lambda line: None) -> None:
        """Write lines with ``write``."""
        self._write = write
        self._notes: list[str] = []
        self._subject = ""
        self._step = ""
        self._started = 0.0
        self._written = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the report should know."""
        return tuple(self._notes)

    def step(self, subject: str, what: str, fraction: float | None = None) -> None:
        """Say that ``subject`` is at ``what``; ``fraction`` is how much of it is done."""
        now = time.monotonic()
        stage = what.partition("(")[0].partition(":")[0]
        if (subject, stage) != (self._subject, self._step):
            self._subject, self._step, self._started, self._written = subject, stage, now, now
            self._write(f"{subject}: {what}")
        elif now - self._written >= REPEAT_AFTER_S:
            self._written = now
            done = "" if fraction is None else f" {fraction:.0%}"
            self._write(f"{subject}: {what}{done}, {now - self._started:.0f} s")

    def note(self, text: str) -> None:
        """Keep a sentence for the report; each is kept once."""
        if text not in self._notes:
            self._notes.append(text)
