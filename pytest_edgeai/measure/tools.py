"""Run a tool that others maintain: found, kept from the network where that is possible, and ended.

Nothing of the caller's environment reaches it but what a process needs to start, and its home is a
folder of ours, so that it neither reads nor leaves an identity there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import NotCertified

QUIET: Mapping[str, str] = {
    "CI": "1",
    "DO_NOT_TRACK": "1",
    "NO_ANALYTICS": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_COLOR": "1",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}
"""Switches off what the tools report home (modelaudit/telemetry.py reads ``NO_ANALYTICS``, ``CI``
and ``PROMPTFOO_DISABLE_TELEMETRY``), and colors."""
_KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE",
            "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CONFIG_FILE", "PIP_CERT")  # fmt: skip
_DEAD_PROXY = "http://127.0.0.1:9"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--")
_PROBE_LIMIT_S = 5.0
_VERSION_LIMIT_S = 30.0


@dataclass(frozen=True)
class Tool:
    """An installed tool.

    Attributes:
        name: name of its distribution.
        command: what starts it.
        version: its version; empty where it does not tell.
    """

    name: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Said:
    """What a tool that ended said.

    Attributes:
        code: its exit status.
        output: standard output.
        errors: standard error.
        isolated: whether it ran without any network.
    """

    code: int
    output: str
    errors: str
    isolated: bool


def find_tool(name: str, command: str) -> Tool | None:
    """Return a tool beside this interpreter or on the search path; ``None`` where there is none.

    Args:
        name: its distribution.
        command: the console command that it installs.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(command, path=str(beside))
    if found is not None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return Tool(name, (found,), importlib.metadata.version(name))
    found = found or shutil.which(command)
    if found is None:
        return None
    return Tool(name, (found,), _asked_version(found))


def _asked_version(command: str) -> str:
    """Return the last word of what ``--version`` prints, which is the version by convention."""
    with tempfile.TemporaryDirectory(prefix="pytest-edgeai-tool-") as home:
        try:
            said = run_tool(
                (command, "--version"), Path(home), time_limit_s=_VERSION_LIMIT_S, online=False
            )
        except NotCertified:
            return ""
    words = said.output.split()
    return words[-1] if said.code == 0 and words else ""


def run_tool(command: Sequence[str], home: Path, *, time_limit_s: float, online: bool) -> Said:
    """Run a tool to its end.

    Args:
        command: the program and its arguments.
        home: folder for whatever it writes.
        time_limit_s: after that many seconds it is killed with everything that it started.
        online: whether it needs the network. Without, it runs in a network namespace of its own
            where the system allows that, and behind a proxy that does not exist elsewhere.

    Raises:
        NotCertified: it did not start, or did not end in time.
    """
    prefix = () if online else _namespace()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"HOME": str(home), "TMPDIR": str(home), **QUIET}
    for name in _NETWORK if online else ():
        environment |= {key: os.environ[key] for key in (name, name.lower()) if key in os.environ}
    if not online:
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), _DEAD_PROXY)
    name = Path(command[0]).name
    with (home / f"{name}.out").open("wb+") as out, (home / f"{name}.err").open("wb+") as err:
        try:
            process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=home,
                start_new_session=True,
            )
        except OSError as error:
            raise NotCertified(f"{name} cannot be started ({error.strerror or error})") from None
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            raise NotCertified(
                f"{name} did not end within {time_limit_s:.0f} s",
                advice="give it more time with --edge-time-limit",
            ) from None
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        return Said(
            code,
            out.read().decode("utf-8", "replace"),
            err.read().decode("utf-8", "replace"),
            bool(prefix),
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of a tool and of what it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


@functools.cache
def _namespace() -> tuple[str, ...]:
    """Return what starts a program without network; nothing where the system does not allow it."""
    if not sys.platform.startswith("linux") or shutil.which(_NAMESPACE[0]) is None:
        return ()
    try:
        done = subprocess.run(
            [*_NAMESPACE, "true"], capture_output=True, timeout=_PROBE_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return _NAMESPACE if done.returncode == 0 else ()
