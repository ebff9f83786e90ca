"""A lazy reader of the Protocol Buffers wire format.

It walks the fields of one message at a time over a buffer (bytes or a memory map), hands out
positions instead of payloads, and so never touches the bytes of a field that nobody asks for.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TypeAlias

Buffer: TypeAlias = bytes | mmap.mmap

VARINT = 0
FIXED64 = 1
LENGTH = 2
FIXED32 = 5

# "Tags must be in [1, 2^29)": the largest key is (2^29 - 1) << 3 | 7.
_LARGEST_KEY = (1 << 32) - 1
# A varint carries 7 bits a byte, so 64 bits take ten bytes at most.
_LONGEST_VARINT = 10
# Real models have some hundred thousand fields outside their tensors. The limit bounds the time
# and the memory that a crafted file of tiny fields can cost.
DEFAULT_FIELD_BUDGET = 10_000_000
# Names are short; what is longer would be copied for nothing.
_LONGEST_TEXT = 1 << 16
_CHARGE = 4096


class WireError(ValueError):
    """The bytes are no well-formed protobuf message."""

    def __init__(self, what: str, offset: int) -> None:
        """Say what is wrong at which byte.

        Args:
            what: what is wrong.
            offset: position in the buffer, in bytes.
        """
        self.what = what
        self.offset = offset
        super().__init__(f"{what} at byte {offset}")


def tag(number: int, wire_type: int) -> int:
    """Return the key that introduces field ``number`` with ``wire_type`` on the wire."""
    return number << 3 | wire_type


def signed(value: int) -> int:
    """Return the int64 (or sign-extended int32) that an unsigned 64-bit varint stands for."""
    return value - (1 << 64) if value >> 63 else value


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """Read one varint.

    Args:
        buffer: the bytes.
        position: where it starts.
        end: where the enclosing message ends.

    Returns:
        The value as an unsigned 64-bit integer, and the position after it.

    Raises:
        WireError: if it runs past ``end`` or is longer than ten bytes.
    """
    start = position
    value = 0
    shift = 0
    while position < end:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            # The tenth byte holds one bit; parsers drop what overflows 64 bits.
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if position - start >= _LONGEST_VARINT:
            raise WireError("a number is longer than ten bytes", start)
    raise WireError("the data end inside a number", start)


class Reader:
    """Reads messages out of one buffer, within a budget of fields.

    Attributes:
        buffer: the bytes that all positions refer to.
    """

    def __init__(self, buffer: Buffer, field_budget: int = DEFAULT_FIELD_BUDGET) -> None:
        """Wrap a buffer.

        Args:
            buffer: the bytes; a memory map must stay open as long as the reader is used.
            field_budget: number of fields after which reading is refused.
        """
        self.buffer = buffer
        self._budget = field_budget

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the fields of the message in ``buffer[start:end]``.

        Yields:
            ``(tag, a, b)``. For a varint ``a`` is its unsigned value and ``b`` is 0; for every
            other wire type ``a`` and ``b`` are the start and the end of the payload. A reader that
            compares whole tags skips a known field of another wire type, as protobuf does.

        Raises:
            WireError: if the message is malformed or truncated, or the budget is spent.
        """
        buffer = self.buffer
        position = start
        count = 0
        while position < end:
            at = position
            key = buffer[position]
            position += 1
            if key >= 0x80:
                key, position = read_varint(buffer, at, end)
                if key > _LARGEST_KEY:
                    raise WireError("a field number is out of range", at)
            if key < 8:
                raise WireError("a field number is zero", at)
            wire_type = key & 7
            if wire_type == LENGTH:
                if position >= end:
                    raise WireError("the data end before a field's length", at)
                length = buffer[position]
                position += 1
                if length >= 0x80:
                    length, position = read_varint(buffer, position - 1, end)
                stop = position + length
            elif wire_type == VARINT:
                if position >= end:
                    raise WireError("the data end before a field's value", at)
                value = buffer[position]
                position += 1
                if value >= 0x80:
                    value, position = read_varint(buffer, position - 1, end)
                yield key, value, 0
                stop = -1
            elif wire_type == FIXED32:
                stop = position + 4
            elif wire_type == FIXED64:
                stop = position + 8
            else:
                # Groups (3, 4) left the language with proto3; 6 and 7 were never assigned.
                raise WireError(f"wire type {wire_type} is unknown", at)
            if stop >= 0:
                if stop > end:
                    raise WireError(
                        f"a field of {stop - position} bytes runs {stop - end} bytes past the end",
                        at,
                    )
                yield key, position, stop
                position = stop
            count += 1
            if count == _CHARGE:
                self._charge(count, at)
                count = 0
        self._charge(count, position)

    def varints(self, start: int, end: int) -> Iterator[int]:
        """Yield the signed int64 values of a packed repeated field.

        Raises:
            WireError: if a value is truncated, or the budget is spent.
        """
        position = start
        while position < end:
            value, position = read_varint(self.buffer, position, end)
            self._charge(1, position)
            yield signed(value)

    def text(self, start: int, end: int) -> str:
        """Return ``buffer[start:end]`` as text; bytes that are no UTF-8 become U+FFFD.

        Raises:
            WireError: if it is longer than 64 KiB.
        """
        if end - start > _LONGEST_TEXT:
            raise WireError(f"a name has {end - start} bytes", start)
        return bytes(self.buffer[start:end]).decode("utf-8", "replace")

    def _charge(self, count: int, position: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise WireError("more fields than any model has", position)
