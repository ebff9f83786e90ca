"""Bootstrap of a worker: run by path, in an interpreter that need not know this package.

Arguments: the descriptors (on Windows: handles) to read requests from and to write answers to,
that of the lifeline, and the log of a worker that is cut off from the network.

Up to its first answer nothing may be used here that an old Python does not know: an interpreter
that is too old must still be able to say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Mapping
from importlib import machinery, metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

WORKER_OOM_SCORE = 500  # of 1000: the kernel ends a worker rather than the test process


class Locations:
    """Makes the named top-level modules importable from their files, and nothing beside them."""

    def __init__(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        """``table`` maps a name to ``{"origin": file or null, "search": folders or null}``."""
        self.table = table

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        """Return the module's spec, or ``None``; the protocol of ``sys.meta_path``."""
        if name not in self.table:
            return None
        origin, search = self.table[name]["origin"], self.table[name]["search"]
        if origin is not None:
            return util.spec_from_file_location(name, origin, submodule_search_locations=search)
        spec = machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = search
        return spec


def open_pipes(read: int, write: int, lifeline: int) -> tuple[int, int, int]:
    """Return the descriptors of the three pipes, closed to processes that the framework starts."""
    if sys.platform == "win32":
        import msvcrt

        return (
            msvcrt.open_osfhandle(read, os.O_RDONLY | os.O_BINARY),
            msvcrt.open_osfhandle(write, os.O_BINARY),
            msvcrt.open_osfhandle(lifeline, os.O_RDONLY | os.O_BINARY),
        )
    for descriptor in (read, write, lifeline):
        os.set_inheritable(descriptor, False)
    return read, write, lifeline


def die_with_parent(lifeline: int) -> None:
    """Make sure that this process, and those it starts, end when the parent does.

    Only the parent holds the lifeline's other end, so its death, however sudden, closes it. Linux
    then signals the whole group from within the kernel (fcntl(2), ``F_SETSIG``), even where a
    framework is stuck and holds the interpreter lock; elsewhere a thread waits for the end of file.
    prctl(PR_SET_PDEATHSIG) would end this process alone, sometimes before the lifeline closes, and
    leave the processes that it started.
    """
    if sys.platform == "linux":
        import fcntl
        import select

        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(WORKER_OOM_SCORE))
        poller = select.poll()
        poller.register(lifeline, 0)  # the end of the file is always reported
        if poller.poll(0):  # the parent died before the kernel was asked to watch it
            os._exit(1)
    else:
        threading.Thread(target=wait_for_end, args=(lifeline,), daemon=True).start()


def wait_for_end(lifeline: int) -> None:
    """End this process and its group when the lifeline's other end is closed."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def installed_versions(distributions: list[str]) -> dict[str, str]:
    """Return the versions of those ``distributions`` that this interpreter has."""
    versions = {}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def main() -> int:
    """Say hello, learn what to be, and serve until told to stop."""
    read, write, lifeline = (int(word) for word in sys.argv[1:4])
    read, write, lifeline = open_pipes(read, write, lifeline)
    die_with_parent(lifeline)
    here = Path(__file__).resolve().parent
    # This folder stands first on the path of a script; its modules are not top-level modules.
    if sys.path and Path(sys.path[0]).resolve() == here:
        del sys.path[0]
    hello = {
        "type": "hello",
        "python_version": sys.version.split()[0],
        "version_info": list(sys.version_info[:3]),
        "executable": sys.executable,
        "pid": os.getpid(),
    }
    body = json.dumps(hello).encode()
    os.write(write, struct.pack("!I", len(body)) + body)

    # This package always comes from the parent, so that both ends speak the same protocol.
    package = here.parent
    own = {package.name: {"origin": str(package / "__init__.py"), "search": [str(package)]}}
    sys.meta_path.insert(0, Locations(own))
    if len(sys.argv) > 4:
        from pytest_edgeai.worker.isolation import isolate

        isolate(Path(sys.argv[4]))
    from pytest_edgeai.worker.connection import Connection

    connection = Connection(read, write)
    request = connection.receive()
    if request is None:
        return 0
    arguments = request.arguments
    sys.argv = [sys.argv[0]]
    sys.path.extend(entry for entry in arguments["path"] if entry not in sys.path)
    sys.meta_path.append(Locations(arguments["locations"]))
    versions = installed_versions([*arguments["distributions"], *arguments["versions_of"]])
    if request.operation == "probe":
        wanted = list(dict.fromkeys([*arguments["distributions"], "numpy"]))
        have = {*versions, *installed_versions(["numpy"])}
        missing = [name for name in wanted if name not in have]
        connection.result(request.id, {"versions": versions, "missing": missing})
        return 0
    try:
        from pytest_edgeai.worker.service import Service
    except ImportError as error:
        connection.failure(request.id, "missing", f"{type(error).__name__}: {error}")
        return 1
    return Service.serve(connection, request, versions)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks take tenths of a second to tear themselves down, and the system does it for free.
    os._exit(code)
