from __future__ import annotations

import dataclasses

import pytest

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.assess.roofline import CALL_NS, estimate_call_ns

HOST = dataclasses.replace(read_host(), simd=("avx2",), logical_cores=4)


def estimate(flops: int | None, moved: int | None, threads: int = 1, operators: int = 0) -> float:
    found = estimate_call_ns(flops, moved, operators, HOST, threads=threads)
    assert found is not None
    return found


def test_the_longer_of_computing_and_moving_counts() -> None:
    computing, moving = estimate(10**10, 0), estimate(0, 10**9)
    assert estimate(10**10, 10**9) == max(computing, moving)
    assert estimate(2 * 10**10, None) - CALL_NS == pytest.approx(2 * (computing - CALL_NS))


def test_threads_share_the_arithmetic_up_to_the_cores() -> None:
    one = estimate(10**10, 0) - CALL_NS
    assert estimate(10**10, 0, threads=2) - CALL_NS == pytest.approx(one / 2)
    assert estimate(10**10, 0, threads=0) == estimate(10**10, 0, threads=64)


def test_every_operator_costs_something() -> None:
    assert estimate(0, 0, operators=100) > estimate(0, 0)


def test_wider_registers_compute_faster() -> None:
    wide = dataclasses.replace(HOST, simd=("avx2", "avx512f"))
    scalar = dataclasses.replace(HOST, simd=())
    times = [estimate_call_ns(10**10, 0, 0, host, threads=1) for host in (wide, HOST, scalar)]
    assert times == sorted(times, key=lambda ns: ns or 0.0)
    assert len(set(times)) == 3


def test_nothing_is_guessed_from_nothing() -> None:
    assert estimate_call_ns(None, None, 10, HOST, threads=1) is None
