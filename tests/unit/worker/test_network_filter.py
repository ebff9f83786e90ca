"""The filter of system calls, run instruction by instruction as the kernel runs it."""

from __future__ import annotations

import errno
import struct

import pytest

from pytest_edgeai.worker.network_filter import (
    CALLS,
    IO_URING_SETUP,
    NoFilter,
    program,
    system_calls,
)

ALLOW, NOTIFY, ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000


def run(code: bytes, number: int, architecture: int) -> int:
    """Return what a classic BPF program answers to ``struct seccomp_data``."""
    data = struct.pack("=II", number, architecture)
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = lines[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation in (0x15, 0x35):
            equal = accumulator == value if operation == 0x15 else accumulator >= value
            at += if_true if equal else if_false
        else:
            assert operation == 0x06
            return int(value)


@pytest.mark.parametrize("machine", CALLS)
def test_what_the_filter_decides(machine: str) -> None:
    calls = CALLS[machine]
    code = program(calls)
    assert {run(code, number, calls.architecture) for number in calls.watched} == {NOTIFY}
    assert run(code, IO_URING_SETUP, calls.architecture) == ERRNO | errno.EPERM
    others = {*range(500)} - {*calls.watched, IO_URING_SETUP}
    assert {run(code, number, calls.architecture) for number in others} == {ALLOW}


@pytest.mark.parametrize("machine", CALLS)
def test_the_calls_of_another_architecture_are_refused(machine: str) -> None:
    code = program(CALLS[machine])
    assert run(code, 42, 0x40000003) == ERRNO | errno.ENOSYS


def test_the_third_table_of_x86_is_refused() -> None:
    calls = CALLS["x86_64"]
    assert run(program(calls), 0x40000000 + 42, calls.architecture) == ERRNO | errno.ENOSYS


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(NoFilter):
        system_calls()
