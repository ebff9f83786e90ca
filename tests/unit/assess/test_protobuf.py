"""The wire reader against the protobuf runtime's own encoder."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.assess.protobuf import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Reader,
    WireError,
    read_varint,
    signed,
    tag,
)


def fields(data: bytes, **options: int) -> list[tuple[int, int, int]]:
    return list(Reader(data, **options).fields(0, len(data)))


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_reads_every_int64_that_protobuf_writes(value: int) -> None:
    data = onnx.OperatorSetIdProto(version=value).SerializeToString()
    ((key, read, _),) = fields(data)
    assert key == tag(2, VARINT)
    assert signed(read) == value


@given(st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1)))
def test_reads_packed_numbers(values: list[int]) -> None:
    data = onnx.TensorProto(int64_data=values).SerializeToString()
    found = [item for _, a, b in fields(data) for item in Reader(data).varints(a, b)]
    assert found == values


@given(st.text(max_size=300), st.binary(max_size=300), st.floats(width=32), st.floats())
def test_reads_every_wire_type(name: str, raw: bytes, single: float, double: float) -> None:
    tensor = onnx.TensorProto(name=name, raw_data=raw, data_type=1)
    attribute = onnx.AttributeProto(f=single)
    data = tensor.SerializeToString() + attribute.SerializeToString()
    found = {key: (a, b) for key, a, b in fields(data)}
    assert Reader(data).text(*found[tag(8, LENGTH)]) == name
    assert slice(*found[tag(9, LENGTH)]) is not None
    assert data[slice(*found[tag(9, LENGTH)])] == raw
    assert found[tag(2, VARINT)] == (1, 0)
    start, end = found[tag(2, FIXED32)]
    assert end - start == 4
    wide = bytes([tag(1, FIXED64)]) + bytes(8)
    assert fields(wide) == [(tag(1, FIXED64), 1, 9)]


def test_every_truncation_is_noticed_unless_it_falls_between_fields() -> None:
    message = onnx.NodeProto(
        input=["a", "b"], output=["c" * 200], op_type="Add", overload="x" * 130
    )
    message.attribute.add(name="alpha", f=1.0, type=1)
    data = message.SerializeToString()
    boundaries = {0} | {b for _, _, b in fields(data)}
    for end in range(len(data)):
        if end in boundaries:
            assert len(fields(data[:end])) < len(fields(data))
        else:
            with pytest.raises(WireError):
                fields(data[:end])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x08", "before a field's value"),
        (b"\x0a", "before a field's length"),
        (b"\x80", "inside a number"),
        (b"\x08" + b"\xff" * 11, "longer than ten bytes"),
        (b"\x0a\x05abcd", "1 bytes past the end"),
        (b"\x0d\x00\x00\x00", "past the end"),
        (b"\x09" + b"\x00" * 7, "past the end"),
        (b"\x00\x01", "number is zero"),
        (b"\x0b", "wire type 3"),
        (b"\x0e", "wire type 6"),
        (b"\xff\xff\xff\xff\xff\x01", "out of range"),
    ],
)
def test_malformed_messages(data: bytes, what: str) -> None:
    with pytest.raises(WireError, match=what):
        fields(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = fields(data)
    except WireError:
        return
    assert all(b <= len(data) for _, _, b in found)
    assert len(found) * 2 <= len(data)


def test_the_budget_ends_reading() -> None:
    data = b"\x08\x01" * 5000
    assert len(fields(data, field_budget=5000)) == 5000
    with pytest.raises(WireError, match="more fields"):
        fields(data, field_budget=4999)
    with pytest.raises(WireError, match="more fields"):
        list(Reader(b"\x01" * 11, field_budget=10).varints(0, 11))


def test_an_endless_name_is_not_copied(tmp_path: Path) -> None:
    data = bytes(1 << 17)
    with pytest.raises(WireError, match="131072 bytes"):
        Reader(data).text(0, len(data))


def test_varint_overflow_keeps_64_bits() -> None:
    assert read_varint(b"\xff" * 9 + b"\x7f", 0, 10) == (2**64 - 1, 10)
