"""The parent's ends of a worker's pipes: messages out, messages in, and what the worker prints."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import sys
import threading
import time
from collections import deque
from typing import Protocol

from pytest_edgeai.worker.protocol import Decoder, Message, ProtocolError

OUTPUT_BYTES = 64 * 2**10
"""How much of a worker's output is kept, whether it prints lines or gigabytes."""
OUTPUT_LINES = 40

_READ_BYTES = 64 * 2**10
# ECMA-48 control sequences (colors, cursor movement) and the controls that XML 1.0 does not allow.
_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class ChannelClosed(Exception):
    """The worker's end of the pipe is gone, or what came through it was no message."""


class OutputRing:
    """Keeps the last :data:`OUTPUT_BYTES` bytes of what a worker printed."""

    def __init__(self) -> None:
        """Start empty."""
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Append ``data``, forgetting the oldest bytes."""
        self._bytes += data
        del self._bytes[:-OUTPUT_BYTES]

    def tail(self) -> str:
        """Return the last :data:`OUTPUT_LINES` lines as clean text."""
        text = bytes(self._bytes).decode("utf-8", "replace")
        lines = [_CONTROLS.sub("", line).rstrip() for line in text.splitlines()]
        return "\n".join([line for line in lines if line][-OUTPUT_LINES:])


class Channel(Protocol):
    """What the host needs of a worker's pipes."""

    def send(self, data: bytes, deadline: float) -> None:
        """Send a frame; ``deadline`` is on ``time.monotonic``.

        Raises:
            ChannelClosed: the worker is gone.
            TimeoutError: the worker does not read.
        """
        ...

    def receive(self, deadline: float) -> Message:
        """Wait for the next message; ``deadline`` is on ``time.monotonic``.

        Raises:
            ChannelClosed: the worker is gone, or sent something that is no message.
            TimeoutError: the deadline passed.
        """
        ...

    def tail(self) -> str:
        """Return the last lines that the worker printed."""
        ...

    def close(self) -> None:
        """Close the pipes."""
        ...


class PollingChannel:
    """POSIX: one ``poll`` over both pipes, so that the test process needs no thread.

    What the worker prints is drained while an answer is awaited, which is when a worker works.
    """

    def __init__(self, read_fd: int, write_fd: int, output_fd: int) -> None:
        """Take ownership of the three descriptors."""
        for descriptor in (read_fd, write_fd, output_fd):
            os.set_blocking(descriptor, False)
        self._read_fd, self._write_fd, self._output_fd = read_fd, write_fd, output_fd
        self._decoder = Decoder()
        self._messages: deque[Message] = deque()
        self._output = OutputRing()
        self._open = True
        self._incoming = select.poll()
        self._incoming.register(read_fd, select.POLLIN)
        self._incoming.register(output_fd, select.POLLIN)
        self._outgoing = select.poll()
        self._outgoing.register(write_fd, select.POLLOUT)
        self._outgoing.register(output_fd, select.POLLIN)
        self._output_ended = False

    def send(self, data: bytes, deadline: float) -> None:
        """See :meth:`Channel.send`."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._write_fd, view) :]
            except BlockingIOError:
                self._wait(self._outgoing, deadline)
            except OSError as error:
                raise ChannelClosed(str(error)) from error

    def receive(self, deadline: float) -> Message:
        """See :meth:`Channel.receive`."""
        while not self._messages:
            if self._read_fd in self._wait(self._incoming, deadline):
                self._read_messages()
        return self._messages.popleft()

    def _wait(self, poller: select.poll, deadline: float) -> set[int]:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        ready = {descriptor for descriptor, _ in poller.poll(remaining_s * 1000)}
        if self._output_fd in ready:
            self._read_output()
        return ready

    def _read_messages(self) -> None:
        try:
            data = os.read(self._read_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ChannelClosed("the worker closed its connection")
        try:
            self._messages.extend(self._decoder.feed(data))
        except ProtocolError as error:
            raise ChannelClosed(str(error)) from error

    def _read_output(self) -> bool:
        """Read once; return whether there may be more."""
        if self._output_ended:
            return False
        try:
            data = os.read(self._output_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._output_ended = True
            self._incoming.unregister(self._output_fd)
            self._outgoing.unregister(self._output_fd)
            return False
        self._output.add(data)
        return True

    def tail(self) -> str:
        """See :meth:`Channel.tail`."""
        # Bounded, because a worker may print faster than this reads.
        for _ in range(256):
            if not self._open or not self._read_output():
                break
        return self._output.tail()

    def close(self) -> None:
        """See :meth:`Channel.close`."""
        if not self._open:
            return
        self.tail()
        self._open = False
        for descriptor in (self._read_fd, self._write_fd, self._output_fd):
            os.close(descriptor)


class ThreadedChannel:
    """Windows, whose pipes cannot be polled: one reader thread per pipe."""

    def __init__(self, read_fd: int, write_fd: int, output_fd: int) -> None:
        """Take ownership of the three descriptors."""
        self._read_fd, self._write_fd, self._output_fd = read_fd, write_fd, output_fd
        self._messages: queue.SimpleQueue[Message | ChannelClosed] = queue.SimpleQueue()
        self._output = OutputRing()
        self._lock = threading.Lock()
        self._open = True
        self._threads = (
            threading.Thread(target=self._read_messages, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes, deadline: float) -> None:
        """See :meth:`Channel.send`; requests fit into the pipe, so the write does not block."""
        if time.monotonic() >= deadline:
            raise TimeoutError
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._write_fd, view) :]
            except OSError as error:
                raise ChannelClosed(str(error)) from error

    def receive(self, deadline: float) -> Message:
        """See :meth:`Channel.receive`."""
        try:
            message = self._messages.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(message, ChannelClosed):
            self._messages.put(message)
            raise message
        return message

    def _read_messages(self) -> None:
        decoder = Decoder()
        try:
            while data := os.read(self._read_fd, _READ_BYTES):
                for message in decoder.feed(data):
                    self._messages.put(message)
            self._messages.put(ChannelClosed("the worker closed its connection"))
        except (OSError, ProtocolError) as error:
            self._messages.put(ChannelClosed(str(error)))

    def _read_output(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._output_fd, _READ_BYTES):
                with self._lock:
                    self._output.add(data)

    def tail(self) -> str:
        """See :meth:`Channel.tail`."""
        with self._lock:
            return self._output.tail()

    def close(self) -> None:
        """See :meth:`Channel.close`; to be called when the worker is dead."""
        if not self._open:
            return
        self._open = False
        os.close(self._write_fd)
        for thread, descriptor in zip(self._threads, (self._read_fd, self._output_fd), strict=True):
            thread.join(timeout=1.0)
            # A thread that still reads owns its descriptor: a process that escaped the group holds
            # the other end, and a reused number would be read from by mistake.
            if not thread.is_alive():
                os.close(descriptor)


def open_channel(read_fd: int, write_fd: int, output_fd: int) -> Channel:
    """Return the channel of this platform, which owns the descriptors."""
    kind = ThreadedChannel if sys.platform == "win32" else PollingChannel
    return kind(read_fd, write_fd, output_fd)
