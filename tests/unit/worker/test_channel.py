"""Both kinds of channel over real pipes, and what is kept of a worker's output."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_edgeai.worker.channel import (
    OUTPUT_BYTES,
    OUTPUT_LINES,
    Channel,
    ChannelClosed,
    OutputRing,
    PollingChannel,
    ThreadedChannel,
)
from pytest_edgeai.worker.protocol import Progress, Request, Result, encode

KINDS = [
    pytest.param(
        PollingChannel,
        marks=pytest.mark.skipif(not hasattr(select, "poll"), reason="pipes cannot be polled"),
    ),
    ThreadedChannel,
]


class Ends:
    """The other ends of a channel's pipes."""

    def __init__(self, kind: Callable[[int, int, int], Channel]) -> None:
        answers, self.answers = os.pipe()
        self.requests, requests = os.pipe()
        output, self.output = os.pipe()
        self.channel = kind(answers, requests, output)
        self._open = {self.answers, self.requests, self.output}

    def close(self, *descriptors: int) -> None:
        for descriptor in self._open.intersection(descriptors or self._open):
            os.close(descriptor)
            self._open.discard(descriptor)


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(request.param)
    yield made
    made.close()
    made.channel.close()
    made.channel.close()


def soon() -> float:
    return time.monotonic() + 20


def test_messages_both_ways(ends: Ends) -> None:
    request = encode(Request(1, "load", {"a": 1}))
    ends.channel.send(request, soon())
    assert os.read(ends.requests, 1000) == request
    first, second = encode(Progress(1, "half", 0.5)), encode(Result(1, "ok"))
    os.write(ends.answers, first + second[:3])
    assert ends.channel.receive(soon()) == Progress(1, "half", 0.5)
    os.write(ends.answers, second[3:])
    assert ends.channel.receive(soon()) == Result(1, "ok")


def test_deadline(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        ends.channel.receive(time.monotonic() + 0.01)
    with pytest.raises(TimeoutError):
        ends.channel.send(
            encode(Request(1, "load")),
            time.monotonic() - 1 if isinstance(ends.channel, ThreadedChannel) else fill(ends),
        )


def fill(ends: Ends) -> float:
    """Fill the pipe that nobody reads, so that the next write has to wait."""
    with pytest.raises(TimeoutError):
        ends.channel.send(bytes(2**22), time.monotonic() + 0.01)
    return time.monotonic() + 0.01


def test_other_end_closed(ends: Ends) -> None:
    ends.close()
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            ends.channel.receive(soon())
    with pytest.raises(ChannelClosed):
        ends.channel.send(encode(Request(1, "load")), soon())


def test_garbage_instead_of_messages(ends: Ends) -> None:
    os.write(ends.answers, b"\xff" * 100)
    with pytest.raises(ChannelClosed, match="a message cannot have"):
        ends.channel.receive(soon())


def test_output_is_drained_while_waiting(ends: Ends) -> None:
    os.write(ends.output, b"one\ntwo\n")
    os.write(ends.answers, encode(Result(1)))
    ends.channel.receive(soon())
    deadline = soon()
    while "two" not in ends.channel.tail() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ends.channel.tail() == "one\ntwo"
    ends.close(ends.output)
    os.write(ends.answers, encode(Result(2)))
    assert ends.channel.receive(soon()) == Result(2)


def test_output_outlives_the_channel(ends: Ends) -> None:
    os.write(ends.output, b"last words")
    ends.close()
    ends.channel.close()
    assert ends.channel.tail() == "last words"


def test_ring_keeps_the_end() -> None:
    ring = OutputRing()
    for number in range(100_000):
        ring.add(f"line {number}\n".encode())
    tail = ring.tail()
    assert len(tail) < OUTPUT_BYTES
    assert tail.splitlines() == [f"line {n}" for n in range(100_000 - OUTPUT_LINES, 100_000)]


def test_ring_gives_clean_text() -> None:
    ring = OutputRing()
    ring.add(b"\x1b[0;93mwarning\x1b[m\x00\x07\n\n   \n50%\r100%\n\xff\xfe\xc3")
    assert ring.tail() == "warning\n50%\n100%\n\ufffd\ufffd\ufffd"
