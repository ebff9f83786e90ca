"""Socket addresses and DNS questions, byte by byte; and anything else a framework might pass."""

from __future__ import annotations

import socket
import struct

import pytest

from pytest_edgeai.worker.network_addresses import (
    is_account_cache,
    is_name_service,
    parse_address,
    parse_question,
)


def ipv4(host: str, port: int) -> bytes:
    return struct.pack("=HH4s8x", 2, socket.htons(port), socket.inet_aton(host))


def ipv6(host: str, port: int) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=HHI16sI", 10, socket.htons(port), 0, packed, 0)


@pytest.mark.parametrize(
    ("raw", "kind", "text", "is_loopback"),
    [
        (ipv4("192.0.2.1", 80), "internet", "192.0.2.1:80", False),
        (ipv4("127.0.0.9", 1), "internet", "127.0.0.9:1", True),
        (ipv6("2001:db8::1", 443), "internet", "[2001:db8::1]:443", False),
        (ipv6("::1", 443), "internet", "[::1]:443", True),
        (ipv6("::ffff:127.0.0.1", 443), "internet", "[::ffff:127.0.0.1]:443", True),
        (struct.pack("=H", 1) + b"/run/x.sock\0junk", "local", "/run/x.sock", False),
        (struct.pack("=H", 1) + b"\0abstract", "local", "@abstract", False),
        (struct.pack("=HHII", 40, 0, 1234, 2), "internet", "vsock 2:1234", False),
        (struct.pack("=HHII", 16, 0, 0, 0), "internal", "family 16", False),
        (struct.pack("=H14x", 0), "internal", "family 0", False),
        (struct.pack("=H14x", 31), "unknown", "family 31", False),
        (ipv4("192.0.2.1", 80)[:5], "unknown", "family 2", False),
        (b"", "unknown", "no address", False),
    ],
)
def test_addresses(raw: bytes, kind: str, text: str, is_loopback: bool) -> None:
    address = parse_address(raw)
    assert (address.kind, address.text, address.is_loopback) == (kind, text, is_loopback)


def question(name: str, *, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 7, flags, questions, 0, 0, 0) + labels + b"\0\0\1\0\1"


def test_a_question_names_the_host() -> None:
    assert parse_question(question("telemetry.example")) == "telemetry.example"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
        question("a.example", flags=0x8180),
        question("a.example", questions=2),
        question("a.example")[:-5],
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\x3fshort",
        bytes(512),
    ],
)
def test_what_is_no_question(payload: bytes) -> None:
    assert parse_question(payload) == ""


def test_services_of_names_and_of_accounts() -> None:
    assert is_name_service("/run/systemd/resolve/io.systemd.Resolve")
    assert is_name_service("/var/run/avahi-daemon/socket")
    assert is_account_cache("/var/run/nscd/socket")
    assert is_account_cache("/var/lib/sss/pipes/nss")
    assert not is_name_service("/run/user/1000/wayland-0")
    assert not is_account_cache("/run/user/1000/wayland-0")
