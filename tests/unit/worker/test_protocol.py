"""Framing and decoding, whatever bytes come."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.worker.protocol import (
    HEADER,
    LARGEST_FRAME_BYTES,
    Decoder,
    Failure,
    Hello,
    Message,
    Progress,
    ProtocolError,
    Request,
    Result,
    decode,
    encode,
    frame,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
messages = st.one_of(
    st.builds(Hello, st.text(), st.lists(st.integers(0, 99)), st.text(), st.integers(0, 2**31)),
    st.builds(
        Request, st.integers(0), st.text(), st.dictionaries(st.text(), json_values, max_size=3)
    ),
    st.builds(Progress, st.integers(0), st.text(), st.floats(0, 1)),
    st.builds(Result, st.integers(0), json_values),
    st.builds(Failure, st.integers(0), st.text(), st.text(), st.text(), st.text(), st.text()),
)


@given(messages)
def test_round_trip(message: Message) -> None:
    data = encode(message)
    assert HEADER.unpack_from(data) == (len(data) - HEADER.size,)
    assert decode(data[HEADER.size :]) == message


@given(st.lists(messages, max_size=4), st.lists(st.integers(1, 50), min_size=1))
def test_any_split_of_the_stream(sent: list[Message], sizes: list[int]) -> None:
    stream = b"".join(encode(message) for message in sent)
    decoder = Decoder()
    received: list[Message] = []
    position = turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        received += decoder.feed(stream[position : position + size])
        position += size
        turn += 1
    assert received == sent


@given(st.binary())
def test_bytes_that_are_no_message(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


@given(st.binary(max_size=300))
def test_decoder_raises_nothing_else(data: bytes) -> None:
    decoder = Decoder()
    try:
        received = decoder.feed(data)
    except ProtocolError:
        return
    assert received == []


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[1]",
        b"{}",
        b'{"type":"other"}',
        b'{"type":"result"}',
        b'{"type":"result","id":1,"more":2}',
        b'{"type":["result"],"id":1}',
        b"[" * 100_000,
    ],
)
def test_json_that_is_no_message(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        decode(body)


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), b"bytes", {1, 2}])
def test_values_without_json_form(value: object) -> None:
    with pytest.raises(ProtocolError, match="no JSON form"):
        encode(Result(1, value))


def test_length_that_cannot_be() -> None:
    with pytest.raises(ProtocolError, match="cannot have 1751477356 bytes"):
        Decoder().feed(b"hello")
    with pytest.raises(ProtocolError, match="too long"):
        frame("x" * LARGEST_FRAME_BYTES)
