"""Messages between the test process and a worker: framing, encoding and decoding, without I/O.

A frame is a four-byte unsigned big-endian length and that many bytes of UTF-8 JSON. Only the
standard library is imported: the bootstrap uses this module before NumPy is known to be there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON: TypeAlias = Any

HEADER = struct.Struct("!I")
LARGEST_FRAME_BYTES = 64 * 2**20
"""Arrays travel as files, so a longer frame can only be a corrupted pipe."""


class ProtocolError(Exception):
    """The other side sent something that is no message."""


@dataclass(frozen=True)
class Hello:
    """First message of a worker, sent before anything is imported that could fail.

    Attributes:
        python_version: ``3.11.7``.
        version_info: major, minor and micro version.
        executable: the interpreter's path, in its own words.
        pid: process id of the worker.
    """

    python_version: str
    version_info: Sequence[int]
    executable: str
    pid: int


@dataclass(frozen=True)
class Request:
    """One operation to perform."""

    id: int
    operation: str
    arguments: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a request has come; ``fraction`` runs from 0 to 1."""

    id: int
    what: str
    fraction: float


@dataclass(frozen=True)
class Result:
    """The answer to a request."""

    id: int
    value: JSON = None


@dataclass(frozen=True)
class Failure:
    """A request that raised.

    Attributes:
        id: the request.
        kind: ``user``, ``model``, ``measurement``, ``missing``, ``memory`` or ``exception``.
        what: what happened, in one line.
        where: file, table and key, for errors of the user.
        allowed: the values that would have been accepted.
        advice: what to do about it.
    """

    id: int
    kind: str
    what: str
    where: str = ""
    allowed: str = ""
    advice: str = ""


Message: TypeAlias = Hello | Request | Progress | Result | Failure

_TYPES: dict[str, type[Message]] = {
    "hello": Hello,
    "request": Request,
    "progress": Progress,
    "result": Result,
    "failure": Failure,
}
_NAMES: dict[type[Message], str] = {kind: name for name, kind in _TYPES.items()}


def frame(value: JSON) -> bytes:
    """Return ``value`` as one frame.

    Raises:
        ProtocolError: ``value`` has no strict JSON form (NaN and infinities have none), or is
            longer than :data:`LARGEST_FRAME_BYTES`.
    """
    try:
        body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON form: {error}") from error
    if len(body) > LARGEST_FRAME_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes is too long; arrays travel as files")
    return HEADER.pack(len(body)) + body


def encode(message: Message) -> bytes:
    """Return ``message`` as one frame; raises :class:`ProtocolError` as :func:`frame` does."""
    return frame({"type": _NAMES[type(message)], **vars(message)})


def decode(body: bytes) -> Message:
    """Return the message that a frame's body holds.

    Raises:
        ProtocolError: the bytes are no message of this protocol.
    """
    try:
        fields = json.loads(body)
        kind = _TYPES[fields.pop("type")]
        return kind(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        shown = body[:80].decode("utf-8", "replace")
        raise ProtocolError(f"not a message: {shown!r}") from error


class Decoder:
    """Cuts a stream of bytes into messages, however the stream was split."""

    def __init__(self) -> None:
        """Start with an empty stream."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Add ``data`` and return the messages that are complete by it.

        Raises:
            ProtocolError: the stream is corrupted; the decoder is of no use after that.
        """
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > LARGEST_FRAME_BYTES:
                raise ProtocolError(f"a message cannot have {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append(decode(bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return messages
