"""On what the contest ran."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from pytest_edgeai.assess.hardware import read_host

_LIMIT_S = 60.0


def host_text() -> str:
    """Return the machine and its Python in one line."""
    host = read_host()
    return (
        f"{host.cpu_model}, {host.logical_cores} cores, {host.system}, "
        f"Python {platform.python_version()}"
    )


def installed_version(python: Path, distribution: str) -> str:
    """Return the version that an interpreter has of a distribution; empty where it has none."""
    ask = f"from importlib import metadata; print(metadata.version({distribution!r}))"
    done = subprocess.run(
        [str(python), "-c", ask], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    return done.stdout.strip()
