"""The operation that proves a guard of the network: an attempt that it has to see and refuse."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from pytest_edgeai.records import JSON

PROBE_HOST, PROBE_PORT = "192.0.2.1", 9
"""An address that no network has (TEST-NET-1, RFC 5737), and the port that discards (RFC 863)."""
_PATIENCE_S = 0.2


def probe_network() -> JSON:
    """Try to connect to :data:`PROBE_HOST`; return ``{"refused"}``, whether that was refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(_PATIENCE_S)
        try:
            attempt.connect((PROBE_HOST, PROBE_PORT))
        except TimeoutError:
            return {"refused": False}  # something carried it away, or lost it
        except OSError:
            return {"refused": True}
    return {"refused": False}


OPERATIONS: Mapping[str, Callable[..., JSON]] = {"probe_network": probe_network}
