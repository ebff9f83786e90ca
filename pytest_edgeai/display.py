"""Progress on pytest's terminal: plain lines in a log, a line that comes and goes for a person."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import pytest


class TerminalDisplay:
    """Writes through pytest's terminal reporter; silent with ``-q`` and where there is no reporter.

    The line that does not stay lies below the one that pytest is writing, which is thereby left
    alone; the cursor returns to where pytest expects it.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Write to the terminal of ``config``."""
        self._config = config
        self._drawn = False

    def line(self, text: str) -> bool:
        """Write a line of its own, whatever pytest has on the current one."""
        reporter = self._reporter()
        if reporter is None:
            return False
        with self._uncaptured():
            reporter.ensure_newline()
            reporter.write_line(f"  {text}")
        return True

    def status(self, text: str) -> bool:
        """Show ``text`` below the current line; only on a terminal that a person looks at."""
        if self._reporter() is None:
            return False
        with self._uncaptured():
            if not _is_interactive():
                return False
            self._draw(f"  {text}")
        self._drawn = True
        return True

    def clear(self) -> None:
        """Erase what :meth:`status` drew last."""
        if self._drawn:
            with self._uncaptured():
                self._draw("")
            self._drawn = False

    def _draw(self, text: str) -> None:
        writer = self._config.get_terminal_writer()
        column = writer.width_of_current_line
        line = "".join(c if c.isprintable() else " " for c in text)[: max(1, writer.fullwidth - 1)]
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        line = line.encode(encoding, "replace").decode(encoding)
        # ECMA-48: EL 0 erases to the end of the line, CUU and CUF move the cursor up and right.
        forward = f"\x1b[{column}C" if column else ""
        sys.stdout.write(f"\n\r{line}\x1b[K\x1b[1A\r{forward}")
        sys.stdout.flush()

    def _reporter(self) -> Any:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        return None if reporter is None or self._config.get_verbosity() < 0 else reporter

    def _uncaptured(self) -> contextlib.AbstractContextManager[object]:
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()


def _is_interactive() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
