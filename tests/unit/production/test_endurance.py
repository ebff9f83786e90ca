"""A load goes on after an interruption from what was written."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from enduring import Scripted

from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.measure.endurance import ConstantLoad, Trace
from pytest_edgeai.production.endurance import read_trace, write_trace


def loaded(trace: Trace, turns: int) -> Trace:
    load = ConstantLoad(Scripted(), Scripted(), trace, length_s=10.0, generator=random.Random(0))
    load.run(turns, progress=lambda done, left: None, write=lambda: None)
    return trace


def test_what_was_written_is_read_whole(tmp_path: Path) -> None:
    evidence = EvidenceStore(tmp_path)
    trace = loaded(Trace(), 7)
    write_trace(evidence, "linear/candidate/endurance", trace)
    again = read_trace(evidence, "linear/candidate/endurance")
    assert again.plan == trace.plan
    assert again.sensors.readings == trace.sensors.readings
    assert (again.descriptors, again.threads) == (trace.descriptors, trace.threads)
    assert (again.starts, again.spent_s) == (trace.starts, trace.spent_s)
    before, after = (t.samples(cpu_time_is_valid=True).turns for t in (trace, again))
    for known, read in ((before.baseline, after.baseline), (before.candidate, after.candidate)):
        for column in ("wall_ns", "cpu_ns", "preemptions", "calls_before", "memory_bytes"):
            np.testing.assert_array_equal(getattr(known, column), getattr(read, column))
    assert loaded(again, 12).samples(cpu_time_is_valid=True).starts == (0, 7)


def test_nothing_written_is_an_empty_trace(tmp_path: Path) -> None:
    trace = read_trace(EvidenceStore(tmp_path), "nothing")
    assert trace.plan is None
    assert not len(trace.turns)
