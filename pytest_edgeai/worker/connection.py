"""The worker's end of the pipes; standard library only."""

from __future__ import annotations

import os

from pytest_edgeai.worker.protocol import (
    JSON,
    Decoder,
    Failure,
    Message,
    Progress,
    ProtocolError,
    Request,
    Result,
    encode,
)

_READ_BYTES = 64 * 2**10


class Connection:
    """Blocking messages over two descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Take the descriptors to read requests from and to write answers to."""
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._decoder = Decoder()
        self._requests: list[Request] = []

    def receive(self) -> Request | None:
        """Return the next request, or ``None`` when the parent has gone."""
        while not self._requests:
            data = os.read(self._read_fd, _READ_BYTES)
            if not data:
                return None
            for message in self._decoder.feed(data):
                if not isinstance(message, Request):
                    raise ProtocolError(f"a worker takes requests only: {message}")
                self._requests.append(message)
        return self._requests.pop(0)

    def result(self, request_id: int, value: JSON) -> None:
        """Answer a request."""
        self.send(Result(request_id, value))

    def progress(self, request_id: int, what: str, fraction: float) -> None:
        """Say how far a request has come; ``fraction`` is limited to 0 to 1."""
        # In this order, because NaN has no JSON form and max(0.0, NaN) is 0.0.
        self.send(Progress(request_id, str(what), min(1.0, max(0.0, float(fraction)))))

    def failure(self, request_id: int, kind: str, what: str) -> None:
        """Say that a request raised; see :class:`~pytest_edgeai.worker.protocol.Failure`."""
        self.send(Failure(request_id, kind, what))

    def send(self, message: Message) -> None:
        """Send any message."""
        view = memoryview(encode(message))
        while view:
            view = view[os.write(self._write_fd, view) :]
