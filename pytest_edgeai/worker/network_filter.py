"""A seccomp filter that hands every attempt to reach a network to a supervisor (seccomp(2)).

It sees the system calls of the process and of everything that it starts, whatever language made
them, and needs no privilege. Linux 5.6 and newer, 64-bit x86, Arm and RISC-V.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SystemCalls:
    """Numbers of an architecture (``asm/unistd.h``, ``linux/audit.h``).

    Attributes:
        architecture: its ``AUDIT_ARCH``.
        seccomp: the call that installs a filter.
        pidfd_getfd: the call that copies another process's descriptor.
        watched: number to name of the calls that are handed over.
    """

    architecture: int
    seccomp: int
    pidfd_getfd: int
    watched: dict[int, str]


IO_URING_SETUP = 425
"""The same everywhere. A ring connects without any system call that a filter sees."""

_GENERIC = {203: "connect", 201: "listen", 206: "sendto", 211: "sendmsg", 269: "sendmmsg"}
CALLS = {
    "x86_64": SystemCalls(
        0xC000003E,
        317,
        438,
        {42: "connect", 50: "listen", 44: "sendto", 46: "sendmsg", 307: "sendmmsg"},
    ),
    "aarch64": SystemCalls(0xC00000B7, 277, 438, _GENERIC),
    "riscv64": SystemCalls(0xC00000F3, 277, 438, _GENERIC),
}
_X32_BIT = 0x40000000

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ARCHITECTURE_AT, _NUMBER_AT = 4, 0  # offsets in struct seccomp_data
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_SET_MODE_FILTER = 1
_SPEC_ALLOW = 1 << 2  # older kernels otherwise slow down every load of a filtered process
_NEW_LISTENER = 1 << 3
_PR_SET_NO_NEW_PRIVS = 38


class NoFilter(Exception):
    """This platform does not permit the filter; says why."""


def system_calls() -> SystemCalls:
    """Return the numbers of this machine.

    Raises:
        NoFilter: it is another system or architecture, or the interpreter is of 32 bits.
    """
    machine = platform.machine()
    if sys.platform != "linux":
        raise NoFilter(f"{platform.system()} has no seccomp")
    if machine not in CALLS or sys.maxsize < 2**32:
        raise NoFilter(f"the system calls of {machine} are not known")
    return CALLS[machine]


def program(calls: SystemCalls) -> bytes:
    """Return the filter as an array of ``struct sock_filter`` (``linux/filter.h``)."""
    checks: list[tuple[int, int, str, str]] = [(_LOAD, _NUMBER_AT, "", "")]
    if calls.architecture == CALLS["x86_64"].architecture:
        checks.append((_IF_AT_LEAST, _X32_BIT, "foreign", ""))
    checks += [(_IF_EQUAL, number, "notify", "") for number in calls.watched]
    checks.append((_IF_EQUAL, IO_URING_SETUP, "forbidden", ""))
    begin = [
        (_LOAD, _ARCHITECTURE_AT, "", ""),
        (_IF_EQUAL, calls.architecture, "", "foreign"),
    ]
    ends = {
        "allowed": _ALLOW,
        "notify": _NOTIFY,
        "forbidden": _ERRNO | errno.EPERM,
        "foreign": _ERRNO | errno.ENOSYS,
    }
    lines = [*begin, *checks]
    place = {name: len(lines) + index for index, name in enumerate(ends)}
    code = b""
    for index, (operation, value, if_true, if_false) in enumerate(lines):
        jumps = [place[name] - index - 1 if name else 0 for name in (if_true, if_false)]
        code += struct.pack("=HBBI", operation, *jumps, value)
    return code + b"".join(struct.pack("=HBBI", _RETURN, 0, 0, value) for value in ends.values())


def install() -> int:
    """Filter this thread and all that it starts; return the descriptor that attempts arrive at.

    Whoever is handed nothing waits: the descriptor has to be served from then on.

    Raises:
        NoFilter: the kernel does not permit it, or does not know it.
    """
    calls = system_calls()
    library = ctypes.CDLL(None, use_errno=True)
    code = program(calls)
    held = ctypes.create_string_buffer(code, len(code))
    described = ctypes.create_string_buffer(
        struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
    )
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise NoFilter(f"prctl: {os.strerror(ctypes.get_errno())}")
    listener: int = library.syscall(
        calls.seccomp, _SET_MODE_FILTER, _SPEC_ALLOW | _NEW_LISTENER, described
    )
    if listener < 0:
        raise NoFilter(f"seccomp: {os.strerror(ctypes.get_errno())}")
    return listener


def descriptor_getter() -> Callable[[int, int], int]:
    """Return what copies descriptor ``number`` of process ``pid`` (pidfd_getfd(2)).

    It raises ``OSError`` where that is not permitted.
    """
    calls = system_calls()
    library = ctypes.CDLL(None, use_errno=True)

    def get(pid: int, number: int) -> int:
        process = os.pidfd_open(pid)
        try:
            copied: int = library.syscall(calls.pidfd_getfd, process, number, 0)
        finally:
            os.close(process)
        if copied < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return copied

    return get
