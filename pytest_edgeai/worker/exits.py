"""How a worker ended, in words, and how to end it with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_S = 0.005


def out_of_memory_kills() -> int | None:
    """Return how often the kernel killed a process of this control group for lack of memory.

    Read from cgroup v2 ``memory.events``, cgroup v1 ``memory.oom_control``, or, for the whole
    machine, ``/proc/vmstat``; ``None`` where none of them tells.
    """
    for path in (*_cgroup_files(), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return None


def _cgroup_files() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            files.append(Path("/sys/fs/cgroup", group.lstrip("/"), "memory.events"))
        elif "memory" in controllers.split(","):
            files.append(Path("/sys/fs/cgroup/memory", group.lstrip("/"), "memory.oom_control"))
    return files


def describe_exit(returncode: int, kills_before: int | None, kills_after: int | None) -> str:
    """Say how a process ended.

    Args:
        returncode: as :class:`subprocess.Popen` gives it; negative for a signal.
        kills_before: :func:`out_of_memory_kills` when the process was started.
        kills_after: the same after it ended.
    """
    if returncode >= 0:
        # Windows reports a crash as an NTSTATUS, which people look up in hexadecimal.
        code = f"{returncode:#010x}" if returncode > 0xFFFF else str(returncode)
        return f"exited with code {code}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    rose = kills_before is not None and (kills_after or 0) > kills_before
    if name == "SIGKILL" and rose:
        return "killed by SIGKILL, possibly out of memory: the kernel's OOM count rose"
    return f"killed by {name}"


def wait_for_exit(process: subprocess.Popen[bytes], time_limit_s: float) -> bool:
    """Wait until ``process`` has ended, without reaping it where the platform allows that.

    While its leader is not reaped, the number of a process group cannot be given to another group,
    so that killing the group afterwards hits nobody else.
    """
    deadline = time.monotonic() + time_limit_s
    while True:
        if _has_exited(process):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    if process.returncode is not None:
        return True
    if sys.platform == "linux":
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, process.pid, options) is not None
        except ChildProcessError:  # reaped by somebody else's wait for any child
            return True
    return process.poll() is not None


def end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill ``process`` and everything it started, and return its exit code once it is reaped."""
    if sys.platform == "win32":
        if process.poll() is None:
            command = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    return process.wait()
