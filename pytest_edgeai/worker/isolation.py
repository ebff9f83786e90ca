"""Cut a process off from the network, and write down every attempt to reach one.

Up to three guards are put up, the strongest that this platform permits:

* ``namespace``: a network namespace of its own (network_namespaces(7)), without any interface;
* ``kernel``: a filter of system calls that hands attempts to a process which names and refuses
  them, see :mod:`pytest_edgeai.worker.network_watch`;
* ``python``: where there is no filter, Python's audit events (PEP 578), which do not see what
  native code does.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pytest_edgeai.worker.network_addresses import internet
from pytest_edgeai.worker.network_filter import NoFilter, install
from pytest_edgeai.worker.network_watch import fork_watch, log_line

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # unshare(2)
_PR_SET_PTRACER = 0x59616D61
_NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_SENT = {"socket.connect": "connect", "socket.sendto": "send", "socket.sendmsg": "send"}


def isolate(log: Path) -> None:
    """Cut this process off, before it has a second thread; attempts become lines of ``log``.

    The first line says which guards stand: ``{"kind": "guard", "to": ..., "guards": [...],
    "missing": {guard: why}}``. Every other line is an attempt: ``kind`` is ``connect``, ``send``,
    ``lookup`` (of a host name), ``server`` (a name server was turned to), ``listen`` or ``local``
    (a Unix socket, which is no attempt), ``to`` its destination.
    """
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.set_inheritable(written, False)
    guards: list[str] = []
    missing: dict[str, str] = {}
    try:
        enter_namespace()
        guards.append("namespace")
    except OSError as error:
        missing["namespace"] = error.strerror or str(error)
    try:
        listener = install()
        guards.append("kernel")
    except NoFilter as error:
        missing["kernel"] = str(error)
        sys.addaudithook(audit_hook(lambda line: os.write(written, line)))
        guards.append("python")
    else:
        watch = fork_watch(listener, written)
        # Where only ancestors may read a process (Yama), it names who else may.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, watch, 0, 0, 0)
        os.close(listener)
    os.write(written, log_line("guard", "", guards=guards, missing=missing))


def enter_namespace() -> None:
    """Move this process into a network namespace of its own.

    Without the privilege for it, a user namespace is made too, in which this process keeps its
    user and its group.

    Raises:
        OSError: this platform does not permit it.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this system has no network namespaces")
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_NEW_NETWORK) == 0:
        return
    user, group = os.geteuid(), os.getegid()
    if library.unshare(_NEW_USER | _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path("/proc/self", name).write_text(text, encoding="ascii")


def audit_hook(write: Callable[[bytes], object]) -> Callable[[str, tuple[object, ...]], None]:
    """Return an audit hook that writes down attempts and refuses them with ``OSError``."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not event.startswith("socket."):
            return
        attempt = _attempt(event, arguments)
        if attempt is not None:
            kind, to = attempt
            write(log_line(kind, to, protocol="", by=""))
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    return hook


def _attempt(event: str, arguments: tuple[object, ...]) -> tuple[str, str] | None:
    """Return kind and destination of what an event wants; ``None`` where it stays in the process.

    The events of socket(3) carry ``(socket, address)``, those of lookups the host first.
    """
    if event in _NAMED:
        host = arguments[0]
        name = host.decode("utf-8", "backslashreplace") if isinstance(host, bytes) else str(host)
        return None if host is None or _is_known(name) else ("lookup", name)
    if event in _SENT and not _is_pair():
        address = arguments[1]
        if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[1], int):
            return _SENT[event], internet(str(address[0]), address[1]).text
    if event == "socket.bind":
        address = arguments[1]
        if isinstance(address, tuple) and len(address) >= 2 and address[1] != 0:
            host = str(address[0])
            if not _is_known(host) or not ipaddress.ip_address(_plain(host)).is_loopback:
                return "listen", internet(host, int(str(address[1]))).text
    return None


def _plain(host: str) -> str:
    return "127.0.0.1" if host.lower() in ("localhost", "") else host.partition("%")[0]


def _is_known(host: str) -> bool:
    """Return whether no name server is needed to know where a host is."""
    try:
        ipaddress.ip_address(_plain(host))
    except ValueError:
        return False
    return True


def _is_pair() -> bool:
    """Return whether Python makes a pair of sockets, which Windows has only over loopback."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name.endswith("socketpair") and code.co_filename == socket.__file__:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
