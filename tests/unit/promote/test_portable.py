"""Records of a bundle name no directory of the machine that they were made on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.promote.portable import (
    check_portable,
    checked,
    places_of,
    portable,
    portable_text,
)

HOME = Path("/home/somebody").absolute()
PLACES = places_of(
    home=(HOME, "~"),
    project=(HOME / "project", ""),
    cache=(HOME / "project" / ".edgeai", "cache"),
    nowhere=(None, "x"),
    root=(Path("/").absolute(), "x"),
)


@dataclass(frozen=True)
class Inner:
    file: Path
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    facts: dict[str, object] = field(default_factory=dict)
    number: float = 1.5


def test_the_innermost_directory_counts() -> None:
    assert portable_text(f"{HOME}/project/.edgeai/a.onnx", PLACES) == "cache/a.onnx"
    assert portable_text(f"{HOME}/project/a.onnx", PLACES) == "a.onnx"
    assert portable_text(f"--dir={HOME}/project", PLACES) == "--dir=."
    assert portable_text(f"{HOME}/other and {HOME}", PLACES) == "~/other and ~"


def test_what_only_looks_alike_stays() -> None:
    for text in (f"{HOME}2/x", f"/mnt{HOME}/x", "linear.onnx", "an answer"):
        assert portable_text(text, PLACES) == text


def test_records_are_gone_through() -> None:
    record = Outer(
        Inner(HOME / "project" / "m.onnx", (f"{HOME}/x", "y")),
        {"paths": [f"{HOME}/project/z"], "count": 3, "none": None},
    )
    assert portable(record, PLACES) == Outer(
        Inner(Path("m.onnx"), ("~/x", "y")), {"paths": ["z"], "count": 3, "none": None}
    )


def test_a_document_with_a_path_is_refused() -> None:
    check_portable({"README.md": "fine"}, PLACES)
    with pytest.raises(EdgeAIError, match=r"report.md would name .*project/x"):
        check_portable({"README.md": "fine", "report.md": f"see {HOME}/project/x"}, PLACES)


def test_descriptions_are_checked_when_they_are_made() -> None:
    fine = checked(lambda files: {"a": ", ".join(files)}, PLACES)
    assert fine({"f": "1"}) == {"a": "f"}
    with pytest.raises(EdgeAIError, match="a path of this machine"):
        checked(lambda files: {"a": f"{HOME}/project/secret"}, PLACES)({})
