from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.names import reference_name

# https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md and
# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
LAYOUT_REFERENCE = re.compile(r"[A-Za-z0-9]+(([-._:@+]|--)[A-Za-z0-9]+)*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
NAMES = st.lists(st.text("aZ5.-_/é h\0", min_size=1, max_size=6), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("names", "reference"),
    [
        (("current", "digits", "intel"), "current--digits--intel"),
        (("wake_word-v1.0", "arm-mobile"), "wake_word-v1.0--arm-mobile"),
        (("a--b",), "aZ2dZ2db"),
        (("-a.",), "Z2daZ2e"),
        (("Zoo é",), "Z5aooZ20Zc3Za9"),
    ],
)
def test_a_reference_can_be_read(names: tuple[str, ...], reference: str) -> None:
    assert reference_name(*names) == reference


@given(NAMES)
def test_a_reference_fits_the_grammars(names: list[str]) -> None:
    reference = reference_name(*names)
    assert LAYOUT_REFERENCE.fullmatch(reference)
    assert TAG.fullmatch(reference)


@given(NAMES, NAMES)
def test_different_names_give_different_references(one: list[str], other: list[str]) -> None:
    assert (reference_name(*one) == reference_name(*other)) is (one == other)


def test_a_long_name_is_cut_and_stays_apart() -> None:
    names = [reference_name("current", "m" * 200 + end, "intel") for end in "ab"]
    assert names[0] != names[1]
    for name in names:
        assert TAG.fullmatch(name)
        assert LAYOUT_REFERENCE.fullmatch(name)
        assert name.startswith("current--Zh")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UserError, match="empty name"):
        reference_name("current", "")
