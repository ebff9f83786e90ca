"""What the system's own interfaces say about noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.records import PairedTimings
from pytest_edgeai.selfcheck.noise import (
    Reading,
    cores,
    noise_of,
    parse_frequencies,
    parse_stat,
    read_machine,
)

STAT = "cpu  100 0 50 800 50 0 0 25 7 0\ncpu0 100 0 50 800 50 0 0 25 7 0\n"


def timings(*, cpu_share: float, preempted: bool) -> PairedTimings:
    wall = np.full(20, 1_000_000, np.int64)
    cpu = (wall * cpu_share).astype(np.int64)
    switches = np.full(20, int(preempted), np.int64)
    first = np.zeros(20, np.bool_)
    return PairedTimings(wall, wall, cpu, cpu, switches, switches, first, np.zeros(20, np.int64))


def test_the_columns_of_proc_stat() -> None:
    assert parse_stat(STAT) == (1025, 25, 850)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found = parse_stat(text)
    assert found is None or len(found) == 3
    assert isinstance(parse_frequencies("cpu MHz\t\t: 2400.5\nflags : fpu\n" * 2), tuple)


def test_frequencies_are_those_of_the_cores() -> None:
    assert parse_frequencies("cpu MHz\t\t: 2400.5\nmodel : x\ncpu MHz : 800\n") == (2400.5, 800.0)
    assert parse_frequencies("Features : asimddp\n") == ()


def test_noise_is_the_difference_of_readings() -> None:
    readings = [
        Reading(1000, 10, 800, (2000.0, 2100.0)),
        Reading(2000, 110, 1200, (1500.0,)),
    ]
    quiet = [timings(cpu_share=1.0, preempted=False), timings(cpu_share=0.4, preempted=False)]
    noise = noise_of(readings, quiet)
    assert noise.steal_ratio == pytest.approx(0.1)
    assert noise.busy_ratio == pytest.approx(0.6)
    assert noise.cpu_wall_ratio == pytest.approx(0.7)
    assert (noise.contended, noise.measurements) == (1, 2)
    assert noise.frequency_mhz == (1500.0, 2100.0)


def test_what_the_system_does_not_tell_stays_unknown() -> None:
    noise = noise_of([Reading(None, None, None, ())] * 2, [])
    assert (noise.steal_ratio, noise.cpu_wall_ratio, noise.frequency_mhz) == (None, None, None)


def test_this_machine_can_be_read() -> None:
    reading = read_machine()
    assert reading.total_ticks is None or reading.total_ticks > 0
    assert cores() >= 1
