"""``pytest --edge-history``: print the stored history and run nothing."""

from __future__ import annotations

import shutil
import sys

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.invocation import cache_directory, read_settings
from pytest_edgeai.remembering import history_lines


def show_history(config: pytest.Config) -> pytest.ExitCode | None:
    """Print the history in place of a run; ``None`` where it was not asked for after all.

    Raises:
        pytest.UsageError: a setting is wrong, or the history cannot be read; one line.
    """
    try:
        settings, manifest = read_settings(config)
        if not settings.history:
            return None
        lines = history_lines(
            settings,
            cache_directory(settings, manifest),
            shutil.get_terminal_size().columns,
            ascii_only=_is_ascii_only(),
        )
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    print("\n".join(lines))
    return pytest.ExitCode.OK


def _is_ascii_only() -> bool:
    try:
        "▁█×".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False
