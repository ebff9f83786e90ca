"""What the supervisor decides about system calls, asked about the sockets of this very process."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_edgeai.worker.network_filter import NoFilter, system_calls
from pytest_edgeai.worker.network_watch import GO_ON, UNREACHABLE, Call, Watch, Word

if sys.platform != "linux":
    pytest.skip("seccomp is Linux's", allow_module_level=True)

LINES: list[dict[str, Any]] = []
Ask = Callable[..., Word]


@pytest.fixture
def watch() -> Watch:
    """A supervisor that writes into ``LINES``."""
    LINES.clear()
    try:
        system_calls()
    except NoFilter as error:
        pytest.skip(str(error))
    return Watch(lambda line: LINES.append(json.loads(line)), os.getpid())


@pytest.fixture
def sockets() -> Iterator[Callable[..., socket.socket]]:
    """Return a function that opens a socket, closed at the end."""
    opened: list[socket.socket] = []

    def make(family: int, kind: int) -> socket.socket:
        opened.append(socket.socket(family, kind))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def call(name: str, held: socket.socket, *arguments: int) -> Call:
    """Return a system call of this thread on a socket."""
    padded = (held.fileno(), *arguments, 0, 0, 0, 0, 0)[:6]
    return Call(threading.get_native_id(), name, padded)


def ipv4(host: str, port: int) -> Any:
    raw = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))
    return ctypes.create_string_buffer(raw, len(raw))


def connect(watch: Watch, held: socket.socket, host: str, port: int) -> Word:
    address = ipv4(host, port)
    return watch.decide(call("connect", held, ctypes.addressof(address), len(address)))


def noted() -> list[tuple[str, str, str]]:
    return [(line["kind"], line["to"], line["protocol"]) for line in LINES]


STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
ASKED = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\4host\7example\0\0\1\0\1"


def test_streams_are_refused_and_named(watch: Watch, sockets: Any) -> None:
    assert connect(watch, sockets(socket.AF_INET, STREAM), "192.0.2.1", 80) == UNREACHABLE
    assert connect(watch, sockets(socket.AF_INET, STREAM), "127.0.0.1", 80) == UNREACHABLE
    assert noted() == [("connect", "192.0.2.1:80", "TCP"), ("connect", "127.0.0.1:80", "TCP")]


def test_putting_addresses_in_order_is_no_attempt(watch: Watch, sockets: Any) -> None:
    assert connect(watch, sockets(socket.AF_INET, DATAGRAM), "127.0.0.1", 80) == GO_ON
    assert noted() == []
    assert connect(watch, sockets(socket.AF_INET, DATAGRAM), "192.0.2.1", 80) == UNREACHABLE
    assert noted() == [("connect", "192.0.2.1:80", "UDP")]


def test_a_name_server_is_answered_for_until_it_is_asked(watch: Watch, sockets: Any) -> None:
    held = sockets(socket.AF_INET, DATAGRAM)
    assert connect(watch, held, "192.0.2.53", 53) == Word()
    payload = ctypes.create_string_buffer(ASKED, len(ASKED))
    word = watch.decide(call("sendto", held, ctypes.addressof(payload), len(ASKED)))
    assert word == Word(error=errno.ECONNREFUSED)
    assert noted() == [("server", "192.0.2.53:53", "UDP"), ("lookup", "host.example", "DNS")]


@pytest.mark.parametrize("name", ["sendmsg", "sendmmsg"])
def test_messages_are_read_through_their_headers(watch: Watch, sockets: Any, name: str) -> None:
    held = sockets(socket.AF_INET, DATAGRAM)
    payload = ctypes.create_string_buffer(b"counted", 7)
    buffers = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(payload), 7), 16)
    address = ipv4("192.0.2.9", 99)
    header = struct.pack(
        "=QIxxxxQQQQixxxx",
        ctypes.addressof(address),
        len(address),
        ctypes.addressof(buffers),
        1,
        0,
        0,
        0,
    )
    several = ctypes.create_string_buffer(header + bytes(8), 64)
    count = 1 if name == "sendmmsg" else 0
    assert watch.decide(call(name, held, ctypes.addressof(several), count)) == UNREACHABLE
    assert noted() == [("send", "192.0.2.9:99", "UDP")]


@pytest.mark.parametrize(
    ("path", "word", "lines"),
    [
        (b"/run/user/1/thing", GO_ON, [("local", "/run/user/1/thing", "Unix socket")]),
        (b"/var/run/nscd/socket", Word(error=errno.ENOENT), []),
        (
            b"/run/systemd/resolve/io.systemd.Resolve",
            Word(error=errno.ECONNREFUSED),
            [
                (
                    "lookup",
                    "a name, by /run/systemd/resolve/io.systemd.Resolve",
                    "Unix socket",
                )
            ],
        ),
    ],
)
def test_local_sockets(
    watch: Watch, sockets: Any, path: bytes, word: Word, lines: list[tuple[str, str, str]]
) -> None:
    raw = ctypes.create_string_buffer(struct.pack("=H", socket.AF_UNIX) + path + b"\0")
    held = sockets(socket.AF_UNIX, STREAM)
    assert watch.decide(call("connect", held, ctypes.addressof(raw), len(raw))) == word
    assert noted() == lines


def test_listening_to_the_world_is_refused(watch: Watch, sockets: Any) -> None:
    world, own = (sockets(socket.AF_INET, STREAM) for _ in range(2))
    world.bind(("0.0.0.0", 0))
    own.bind(("127.0.0.1", 0))
    assert watch.decide(call("listen", own, 1)) == GO_ON
    assert watch.decide(call("listen", world, 1)) == Word(error=errno.EACCES)
    assert noted() == [("listen", f"0.0.0.0:{world.getsockname()[1]}", "TCP")]


def test_pairs_and_the_kernel_are_left_alone(watch: Watch, sockets: Any) -> None:
    payload = ctypes.create_string_buffer(b"x", 1)
    held = sockets(socket.AF_UNIX, DATAGRAM)
    assert watch.decide(call("sendto", held, ctypes.addressof(payload), 1)) == GO_ON
    netlink = ctypes.create_string_buffer(struct.pack("=HHII", 16, 0, 0, 0), 12)
    assert watch.decide(call("connect", held, ctypes.addressof(netlink), 12)) == GO_ON
    assert noted() == []


def test_memory_that_cannot_be_read_is_refused_unnamed(watch: Watch, sockets: Any) -> None:
    held = sockets(socket.AF_INET, STREAM)
    assert watch.decide(call("connect", held, 8, 16)) == UNREACHABLE
    assert noted() == [("connect", "no address", "TCP")]


def test_where_sockets_may_not_be_looked_at(
    watch: Watch, sockets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without CAP_SYS_PTRACE: destinations are named, protocols are not."""

    def refuse(pid: int, number: int) -> int:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(watch, "_copy", refuse)
    held = sockets(socket.AF_INET, STREAM)
    assert connect(watch, held, "127.0.0.1", 80) == GO_ON
    assert connect(watch, held, "192.0.2.1", 80) == UNREACHABLE
    assert noted() == [("connect", "192.0.2.1:80", "")]
