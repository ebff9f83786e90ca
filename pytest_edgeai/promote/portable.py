"""Records and documents that name no directory of the machine that they were made on."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.measure.private_content import find_places

T = TypeVar("T")
Places = Mapping[str, str]
"""Directory to what stands for it in a document; an empty text makes what lies in it relative."""


def places_of(**directories: tuple[Path | None, str]) -> dict[str, str]:
    """Return the spellings of directories, the longest first, to what stands for each.

    Args:
        directories: what each is for, to its path and the text that stands for it; one without a
            path, or that is the root of a file system, is left out.
    """
    found: dict[str, str] = {}
    for path, text in directories.values():
        if path is None:
            continue
        for each in (path.absolute(), path.resolve()):
            if len(each.parts) > 1:
                found.setdefault(str(each), text)
                found.setdefault(each.as_posix(), text)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def portable(record: T, places: Places) -> T:
    """Return a record whose texts and paths name what stands for the directories instead of them.

    Dataclasses, mappings, lists and tuples are gone through; anything else is left as it is.
    """
    made: Any = _portable(record, places)
    return made  # type: ignore[no-any-return]


def _portable(value: Any, places: Places) -> Any:
    if isinstance(value, str):
        return portable_text(value, places)
    if isinstance(value, Path):
        return Path(portable_text(str(value), places))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        changes = {name: _portable(getattr(value, name), places) for name in fields}
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {_portable(key, places): _portable(item, places) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_portable(item, places) for item in value)
    return value


def portable_text(text: str, places: Places) -> str:
    """Return a text with every directory replaced by what stands for it."""
    for place, stands in places.items():
        if place in text:
            pattern = rf"(?<![\w./\\-]){re.escape(place)}(?:([/\\])|(?![\w.-]))"
            text = re.sub(pattern, functools.partial(_joined, stands), text)
    return text


def _joined(stands: str, found: re.Match[str]) -> str:
    separator = found.group(1)
    if separator is None:
        return stands or "."
    return f"{stands}{separator}" if stands else ""


def check_portable(documents: Mapping[str, str], places: Places) -> None:
    """Refuse documents of a bundle that still name a directory of this machine.

    Raises:
        EdgeAIError: names the first document and what it holds.
    """
    for name, text in documents.items():
        found = find_places(text.encode("utf-8", "backslashreplace"), tuple(places))
        if found:
            raise EdgeAIError(
                f"its {name} would name {found[0]}, a path of this machine, and a bundle names none"
            )


def checked(
    describe: Callable[[Mapping[str, str]], Mapping[str, str]], places: Places
) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """Return what describes a bundle, and refuses to name a directory of this machine."""

    def make(files: Mapping[str, str]) -> Mapping[str, str]:
        documents = describe(files)
        check_portable(documents, places)
        return documents

    return make
