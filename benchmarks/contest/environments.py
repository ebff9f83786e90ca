"""A virtual environment for each contestant, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.contest.contestants import Contestant, runtime

_INSTALL_LIMIT_S = 1800.0
_READY = "installed.txt"


class CannotInstall(Exception):
    """A contestant cannot be installed here; the text says what pip said."""


def default_folder() -> Path:
    """Return where environments are kept: below the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pytest-edgeai-contest"


def interpreter(contestant: Contestant, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the Python that has a contestant; its environment is made where it is missing.

    Args:
        contestant: who.
        folder: of all environments.
        say: hears what takes a while.

    Raises:
        CannotInstall: pip failed, or took too long.
    """
    if contestant.driver == "ours":
        return Path(sys.executable)
    pins = "\n".join((*contestant.requirements, *runtime()))
    place = folder / f"{contestant.driver}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = place / _READY
    if ready.is_file() and ready.read_text(encoding="utf-8") == pins:
        return python
    say(f"installing {contestant.name} into {place}")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    _do([sys.executable, "-m", "venv", str(place)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _do([*pip, *pins.splitlines()])
    ready.write_text(pins, encoding="utf-8")
    return python


def _do(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"not installed after {_INSTALL_LIMIT_S:g} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotInstall(" ".join(lines[-2:]) or f"exit code {done.returncode}")
