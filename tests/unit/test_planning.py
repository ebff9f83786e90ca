from __future__ import annotations

import dataclasses

import pytest

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.planning import INT8_FEATURES, host_warnings


@pytest.mark.parametrize("feature", sorted(INT8_FEATURES))
def test_a_host_with_fast_int8_has_no_warning(feature: str) -> None:
    assert host_warnings(dataclasses.replace(read_host(), simd=("avx2", feature))) == ()


def test_a_host_without_it_has_one() -> None:
    (warning,) = host_warnings(dataclasses.replace(read_host(), simd=("avx2", "fma")))
    assert "INT8" in warning


def test_an_unknown_host_has_none() -> None:
    assert host_warnings(dataclasses.replace(read_host(), simd=())) == ()
