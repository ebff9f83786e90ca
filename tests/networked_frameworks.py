"""Frameworks that reach for the network at a known step and in a known way; run in workers.

``networked_frameworks:load_native`` is one that connects by native code when it loads a model.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import Feeds
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.planted import LoadedPlanted, Planted, PlantedModel

HOST, PORT = "198.51.100.7", 4433
"""Of the addresses that are for documentation (TEST-NET-2, RFC 5737)."""
NAME = "telemetry.example"
CALL_THAT_CONNECTS = 3


def by_python() -> None:
    """Connect as Python does."""
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, PORT), timeout=1)


def by_native() -> None:
    """Connect by the C library, and hold the interpreter lock meanwhile."""
    library = ctypes.PyDLL(None)
    descriptor = library.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(PORT), socket.inet_aton(HOST))
    library.connect(descriptor, address, len(address))
    library.close(descriptor)


def by_datagram() -> None:
    """Send without connecting."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held, contextlib.suppress(OSError):
        held.sendto(b"counted", (HOST, PORT))


def by_message() -> None:
    """Send without connecting, by sendmsg."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held, contextlib.suppress(OSError):
        held.sendmsg([b"counted"], [], 0, (HOST, PORT))


def by_lookup() -> None:
    """Look a host name up as Python does."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(NAME, 443)


def by_native_lookup() -> None:
    """Look a host name up by the C library."""
    found = ctypes.c_void_p()
    ctypes.CDLL(None).getaddrinfo(NAME.encode(), b"443", None, ctypes.byref(found))


def by_child() -> None:
    """Have another process connect."""
    code = f"import socket; socket.create_connection(({HOST!r}, {PORT}))"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)


def by_listening() -> None:
    """Open a port to the world."""
    with contextlib.suppress(OSError):
        socket.create_server(("0.0.0.0", PORT)).close()


def harmless() -> None:
    """Do what stays on this machine: pairs, Unix sockets, loopback names, a local server."""
    first, second = socket.socketpair()
    first.sendall(b"x")
    second.recv(1)
    socket.getaddrinfo("localhost", 80)
    socket.getaddrinfo("127.0.0.1", 80)
    socket.create_server(("127.0.0.1", 0)).close()
    with socket.socket(socket.AF_UNIX) as held, contextlib.suppress(OSError):
        held.connect("/nowhere/local.socket")
    first.close()
    second.close()


WAYS: dict[str, Callable[[], None]] = {
    "python": by_python,
    "native": by_native,
    "datagram": by_datagram,
    "message": by_message,
    "lookup": by_lookup,
    "native-lookup": by_native_lookup,
    "child": by_child,
    "listening": by_listening,
    "harmless": harmless,
}


class Loaded(LoadedPlanted):
    """A planted model that reaches out on its third call."""

    def __init__(self, reach: Callable[[], None]) -> None:
        super().__init__(PlantedModel())
        self._reach = reach
        self._made = 0

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """See :class:`LoadedPlanted`."""
        return self._count

    def _count(self) -> None:
        self._made += 1
        if self._made == CALL_THAT_CONNECTS:
            self._reach()


class Networked(Planted):
    """Reaches out at one step."""

    def __init__(self, step: str, way: str) -> None:
        self._step = step
        self._way = way
        if step == "import":
            WAYS[way]()

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load whatever it is; fails without a network where it is told so."""
        if self._step == "load":
            WAYS[self._way]()
        if self._step == "needs":
            WAYS[self._way]()
            raise ModelError("the license server does not answer", where="the network")
        return Loaded(WAYS[self._way] if self._step == "call" else lambda: None)


def __getattr__(name: str) -> Any:
    step, _, way = name.partition("_")
    if way not in WAYS:
        raise AttributeError(name)
    return functools.partial(Networked, step, way)
