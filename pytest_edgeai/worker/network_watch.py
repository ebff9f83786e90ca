"""The process that answers for the network: it names every attempt, and lets none through.

It is forked from a worker before anything is imported there, and ends with it. What the filter of
:mod:`pytest_edgeai.worker.network_filter` hands over waits for its word.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.worker.network_addresses import (
    DNS_PORT,
    MOST_ADDRESS_BYTES,
    Address,
    internet,
    is_account_cache,
    is_name_service,
    parse_address,
    parse_question,
)
from pytest_edgeai.worker.network_filter import descriptor_getter, system_calls

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_MESSAGE = struct.Struct("=QIxxxxQQQQixxxx")  # struct msghdr of 64 bits
_SEVERAL_BYTES = 64  # struct mmsghdr
_BUFFER = struct.Struct("=QQ")
_MOST_MESSAGES = 4
_MOST_PAYLOAD_BYTES = 512
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_OWN_FAMILIES = (1, 16, 38)  # AF_UNIX, AF_NETLINK, AF_ALG


def log_line(kind: str, to: str, **facts: object) -> bytes:
    """Return one line of a log of the network; ``at_ns`` is on ``time.monotonic_ns``."""
    return (
        json.dumps({"at_ns": time.monotonic_ns(), "kind": kind, "to": to, **facts}).encode(
            "utf-8", "backslashreplace"
        )
        + b"\n"
    )


@dataclass(frozen=True)
class Call:
    """A system call that waits.

    Attributes:
        thread: the thread that made it.
        name: its name.
        arguments: six numbers.
    """

    thread: int
    name: str
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Word:
    """What a system call is told: to go on as it is, or to return ``-error`` (0: done)."""

    goes_on: bool = False
    error: int = 0


GO_ON = Word(goes_on=True)
UNREACHABLE = Word(error=errno.ENETUNREACH)


class Watch:
    """Decides about system calls and writes down what they wanted."""

    def __init__(self, write: Callable[[bytes], object], worker: int) -> None:
        """Write lines by ``write``; ``worker`` is the process id of the worker itself."""
        self._write = write
        self._worker = worker
        self._copy = descriptor_getter()

    def decide(self, call: Call) -> Word:
        """Return what a system call is told."""
        _, second, third = call.arguments[:3]
        if call.name == "connect":
            return self._connect(call, parse_address(self._address(call, second, third)))
        if call.name == "listen":
            return self._listen(call)
        if call.name == "sendto":
            pointer, size = call.arguments[4:6]
            payload = self._read(call.thread, second, min(third, _MOST_PAYLOAD_BYTES))
            return self._send(call, self._address(call, pointer, size), payload)
        step, count = (_SEVERAL_BYTES, min(third, _MOST_MESSAGES))
        if call.name == "sendmsg":
            step, count = 0, 1
        for index in range(count):
            word = self._send(call, *self._message(call.thread, second + index * step))
            if word != GO_ON:
                return word
        return GO_ON

    def _connect(self, call: Call, to: Address) -> Word:
        if to.kind == "internal":
            return GO_ON
        if to.kind == "local":
            return self._connect_locally(call, to.text)
        # Where the kind of the socket cannot be read (a container without CAP_SYS_PTRACE), it is
        # taken for what does no harm, or "localhost" alone would read like an attempt.
        if to.kind == "internet" and self._kind_of(call) in (0, socket.SOCK_DGRAM):
            if to.port == DNS_PORT:
                # Told that it is connected, the caller sends its question, and so names the host.
                self._note(call, "server", to.text, "UDP")
                return Word()
            if to.is_loopback:
                return GO_ON  # sends nothing: this is how addresses are put in order
        self._note(call, "connect", to.text, self._protocol(call))
        return UNREACHABLE

    def _connect_locally(self, call: Call, path: str) -> Word:
        if is_account_cache(path):
            return Word(error=errno.ENOENT)
        if is_name_service(path):
            self._note(call, "lookup", f"a name, by {path}", "Unix socket")
            return Word(error=errno.ECONNREFUSED)
        self._note(call, "local", path, "Unix socket")
        return GO_ON

    def _listen(self, call: Call) -> Word:
        with contextlib.suppress(OSError), self._socket(call) as held:
            if held.family in (socket.AF_INET, socket.AF_INET6):
                to = internet(*held.getsockname()[:2])
                if not to.is_loopback:
                    self._note(call, "listen", to.text, "TCP")
                    return Word(error=errno.EACCES)
        return GO_ON

    def _send(self, call: Call, address: bytes, payload: bytes) -> Word:
        family = self._family_of(call)
        if family in _OWN_FAMILIES:
            return GO_ON
        question = parse_question(payload)
        if not address:
            if not question:
                return GO_ON  # goes where a connect that was seen before led to
            self._note(call, "lookup", question, "DNS")
            return Word(error=errno.ECONNREFUSED)
        to = parse_address(address)
        if to.kind in ("internal", "local"):
            return GO_ON
        if question and to.port == DNS_PORT:
            self._note(call, "server", to.text, "UDP")
            self._note(call, "lookup", question, "DNS")
        else:
            self._note(call, "send", to.text, self._protocol(call))
        return UNREACHABLE

    def _message(self, thread: int, pointer: int) -> tuple[bytes, bytes]:
        """Return address and first bytes of a ``struct msghdr``."""
        raw = self._read(thread, pointer, _MESSAGE.size)
        if len(raw) < _MESSAGE.size:
            return b"", b""
        name, name_bytes, buffers, count, *_ = _MESSAGE.unpack(raw)
        address = self._read(thread, name, min(name_bytes, MOST_ADDRESS_BYTES)) if name else b""
        first = self._read(thread, buffers, _BUFFER.size) if count else b""
        if len(first) < _BUFFER.size:
            return address, b""
        begin, size = _BUFFER.unpack(first)
        return address, self._read(thread, begin, min(size, _MOST_PAYLOAD_BYTES))

    def _address(self, call: Call, pointer: int, size: int) -> bytes:
        if not pointer:
            return b""
        return self._read(call.thread, pointer, min(size & 0xFFFFFFFF, MOST_ADDRESS_BYTES))

    def _read(self, thread: int, pointer: int, size: int) -> bytes:
        """Return memory of a thread; nothing where it may not be read."""
        try:
            with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
                memory.seek(pointer)
                return memory.read(size) or b""
        except (OSError, OverflowError, ValueError):
            return b""

    def _socket(self, call: Call) -> socket.socket:
        return socket.socket(fileno=self._copy(self._process(call), call.arguments[0]))

    def _kind_of(self, call: Call) -> int:
        with contextlib.suppress(OSError), self._socket(call) as held:
            return held.type
        return 0

    def _family_of(self, call: Call) -> int:
        with contextlib.suppress(OSError), self._socket(call) as held:
            return held.family
        return 0

    def _protocol(self, call: Call) -> str:
        names = {int(socket.SOCK_STREAM): "TCP", int(socket.SOCK_DGRAM): "UDP"}
        return names.get(self._kind_of(call), "")

    def _process(self, call: Call) -> int:
        """Return the process of a thread."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{call.thread}/status").read_text().splitlines():
                if line.startswith("Tgid:"):
                    return int(line.split()[1])
        return call.thread

    def _note(self, call: Call, kind: str, to: str, protocol: str) -> None:
        by = ""
        if self._process(call) != self._worker:
            with contextlib.suppress(OSError):
                by = Path(f"/proc/{call.thread}/comm").read_text().strip()
        self._write(log_line(kind, to, protocol=protocol, by=by))


def serve(listener: int, watch: Watch) -> None:
    """Answer what arrives at ``listener``, until the kernel says that nobody is left."""
    import fcntl

    names = system_calls().watched
    while True:
        arrived = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, arrived, True)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue  # whoever called was interrupted or is gone
            return
        number, thread, _, call, _, _, *arguments = _NOTIFICATION.unpack(arrived)
        word = watch.decide(Call(thread, names[call], tuple(arguments)))
        flags = _CONTINUE if word.goes_on else 0
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, -word.error, flags))


def fork_watch(listener: int, log: int) -> int:
    """Fork the process that serves ``listener`` and writes to ``log``; return its id.

    Only to be called while this process has one thread.
    """
    worker = os.getpid()
    watch = os.fork()
    if watch:
        return watch
    try:
        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        library.prctl(_PR_SET_NAME, b"edgeai-network", 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # It holds no pipe of the worker open, so that the worker's end is seen.
        kept = sorted((listener, log))
        for low, high in zip((-1, *kept), (*kept, os.sysconf("SC_OPEN_MAX")), strict=True):
            os.closerange(low + 1, high)
        serve(listener, Watch(lambda line: os.write(log, line), worker))
    finally:
        os._exit(1)
