"""Pickles that would run something, written by :mod:`pickle` itself and opcode by opcode."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess

import numpy as np
import pytest
from planted_files import SYSTEM, Runs

from pytest_edgeai.measure.scan_pickles import UNKNOWN, dangerous_imports, may_be_pickle


def imports(data: bytes) -> tuple[str, ...]:
    return dangerous_imports(io.BytesIO(data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_a_pickle_would_run_is_named(protocol: int) -> None:
    data = pickle.dumps({"w": [1.0], "x": Runs(os.system, "exit 3")}, protocol)
    assert imports(data) == (SYSTEM,)


def test_every_import_is_named_once() -> None:
    data = pickle.dumps([Runs(subprocess.run, ["a"]), Runs(os.system, "a"), Runs(os.system, "b")])
    assert imports(data) == ("subprocess run", SYSTEM)


def test_a_second_pickle_behind_a_harmless_one_is_read() -> None:
    assert imports(pickle.dumps([1, 2]) + pickle.dumps(Runs(os.system, "a"))) == (SYSTEM,)


def test_a_name_that_is_put_together_is_no_name() -> None:
    data = pickle.PROTO + b"\x04" + b"\x8c\x02os" + b"N" + b"\x93" + b"."
    assert imports(data) == (UNKNOWN,)


def test_a_name_from_the_memo_is_found() -> None:
    data = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93."
    assert imports(data) == ("posix system",)


def test_a_pickle_that_breaks_off_after_its_import_counts() -> None:
    assert imports(pickle.dumps(Runs(os.system, "a"), 2)[:-3] + b"\xff") == (SYSTEM,)


def test_arrays_and_weights_are_harmless() -> None:
    state = collections.OrderedDict(w=np.ones(3, np.float32), n=np.float64(2.0))
    for protocol in (2, 5):
        assert imports(pickle.dumps(state, protocol)) == ()
    torch = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00ctorch\nFloatStorage\nq\x01\x86."
    assert imports(torch) == ()


def test_random_weights_are_no_pickle() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        assert imports(b"\x80\x04" + rng.bytes(2000)) == ()


def test_what_may_be_a_pickle() -> None:
    assert may_be_pickle(b"\x80\x04\x95", ".onnx")
    assert may_be_pickle(b"(dp0", ".pkl")
    assert not may_be_pickle(b"\x80\x41", ".onnx")
    assert not may_be_pickle(b"", ".json")


def test_long_arguments_are_passed_over_and_what_follows_is_read() -> None:
    class Counted(io.BytesIO):
        longest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            Counted.longest = max(Counted.longest, len(data))
            return data

    state = [bytes(1 << 20), "x" * (1 << 20), Runs(os.system, "true")]
    for protocol in (2, 4):
        assert dangerous_imports(Counted(pickle.dumps(state, protocol))) == (SYSTEM,)
    assert Counted.longest <= 1 << 16
    # A length beyond the end of the file is no reason to read all of it.
    assert imports(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + bytes(1 << 20)) == ()
