"""What the kernel is handed as a destination, in words: socket addresses and DNS questions."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["internet", "local", "internal", "unknown"]

DNS_PORT = 53
MOST_ADDRESS_BYTES = 128
"""``sizeof(struct sockaddr_storage)``, socket.h(0p)."""

_AF_UNSPEC, _AF_UNIX, _AF_INET, _AF_NETLINK, _AF_ALG, _AF_VSOCK = 0, 1, 2, 16, 38, 40
_AF_INET6 = {10, int(socket.AF_INET6)}
_DNS_HEADER_BYTES = 12
_LONGEST_LABEL = 63
_LONGEST_NAME = 255
_NAME_SERVICES = ("/systemd/resolve/", "/avahi-daemon/socket")
_CACHES = ("/nscd/", "/.nscd_socket", "/lib/sss/pipes/", "/lib/sss/mc/")


@dataclass(frozen=True)
class Address:
    """Where a socket is sent.

    Attributes:
        kind: ``internet`` leaves the process by an internet protocol; ``local`` is a Unix socket of
            this machine; ``internal`` talks to the kernel alone; ``unknown`` is any other family.
        text: for people: ``192.0.2.1:80``, ``[2001:db8::1]:443``, a path, ``family 31``.
        host: the IP address; empty where there is none.
        port: its port; 0 where there is none.
    """

    kind: Kind
    text: str
    host: str = ""
    port: int = 0

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's own loopback address."""
        return bool(self.host) and is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether an IP address is a loopback address, also one of IPv4 mapped into IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def internet(host: str, port: int) -> Address:
    """Return the address of an IP address and a port."""
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Address("internet", text, host, port)


def parse_address(raw: bytes) -> Address:
    """Return what a ``struct sockaddr`` of this machine names (ip(7), ipv6(7), unix(7), vsock(7)).

    Args:
        raw: its bytes, as many as the caller stated; anything, since frameworks write it.
    """
    if len(raw) < 2:
        return Address("unknown", "no address")
    (family,) = struct.unpack_from("=H", raw)
    if family in (_AF_UNSPEC, _AF_NETLINK, _AF_ALG):
        return Address("internal", f"family {family}")
    if family == _AF_UNIX:
        path = raw[2:]
        named = path[1:] if path[:1] == b"\0" else path.split(b"\0", 1)[0]
        text = named.decode("utf-8", "backslashreplace")
        return Address("local", f"@{text}" if path[:1] == b"\0" else text)
    if family == _AF_INET and len(raw) >= 8:
        (port,) = struct.unpack_from("!H", raw, 2)
        return internet(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    if family in _AF_INET6 and len(raw) >= 24:
        (port,) = struct.unpack_from("!H", raw, 2)
        return internet(socket.inet_ntop(socket.AF_INET6, raw[8:24]), port)
    if family == _AF_VSOCK and len(raw) >= 12:
        port, machine = struct.unpack_from("=II", raw, 4)
        return Address("internet", f"vsock {machine}:{port}")
    return Address("unknown", f"family {family}")


def is_name_service(path: str) -> bool:
    """Return whether a Unix socket resolves host names for others (systemd-resolved, Avahi)."""
    return any(part in path for part in _NAME_SERVICES)


def is_account_cache(path: str) -> bool:
    """Return whether a Unix socket is a cache of accounts and hosts (nscd, SSSD).

    The C library asks them for users too, so asking is no lookup; without them it reads the files
    and asks the name servers itself.
    """
    return any(part in path for part in _CACHES)


def parse_question(payload: bytes) -> str:
    """Return the host name that a DNS query asks for (RFC 1035, 4.1); empty where it is no query.

    Args:
        payload: what is sent, without the length that TCP puts before it.
    """
    if len(payload) <= _DNS_HEADER_BYTES:
        return ""
    _, flags, questions, answers, _, _ = struct.unpack_from("!6H", payload)
    is_query = not flags & 0x8000 and not flags & 0x7800
    if not is_query or questions != 1 or answers:
        return ""
    labels: list[str] = []
    at = _DNS_HEADER_BYTES
    while at < len(payload) and payload[at]:
        size = payload[at]
        label = payload[at + 1 : at + 1 + size]
        if size > _LONGEST_LABEL or len(label) < size or at > _LONGEST_NAME:
            return ""
        labels.append(label.decode("ascii", "backslashreplace"))
        at += 1 + size
    # The name ends with an empty label, and type and class follow it.
    return ".".join(labels) if labels and len(payload) >= at + 5 else ""
