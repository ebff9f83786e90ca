"""Running a tool of the system for its output, quietly and within a time limit."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

TIMEOUT_S = 5.0
# A process that the kernel cannot end (a driver that hangs) is left behind instead of waited for.
_LAST_WAIT_S = 0.5
_MOST_BYTES = 1 << 22


def output_of(arguments: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """Return what a command writes to its standard output.

    Args:
        arguments: the command, looked up on ``PATH``, and its arguments.
        timeout_s: when it is killed.

    Returns:
        The output; empty where the command does not exist, fails, or takes too long.
    """
    program = shutil.which(arguments[0])
    if program is None:
        return ""
    # A file instead of a pipe: children that outlive the command cannot keep the reader waiting.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [program, *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return ""
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WAIT_S)
            return ""
        if status:
            return ""
        output.seek(0)
        return output.read(_MOST_BYTES).decode("utf-8", "replace")
