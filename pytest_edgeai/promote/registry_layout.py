"""How the files of a registry lie: the plain directory, and what any other layout has to do.

A layout knows where bundles and pointers are; what a change is, and when it takes effect, is
:mod:`~pytest_edgeai.promote.registry`'s to say, in the same way for every layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.names import portable_name
from pytest_edgeai.promote.registry_log import (
    NOWHERE,
    Damaged,
    Entry,
    Pair,
    Place,
    current_and_previous,
    digest_of,
)

if TYPE_CHECKING:
    # Listing does without them.
    from pytest_edgeai.promote.statement import Statement
    from pytest_edgeai.promote.verification import Verified

SCHEMA = "pytest-edgeai/registry/1"
POINTER_SCHEMA = "pytest-edgeai/pointer/1"
MARK = "registry.json"
_FAMILY = SCHEMA.rpartition("/")[0] + "/"


class Layout(Protocol):
    """Where the bundles and the pointers of a registry lie, below one directory.

    Everything that reads may be called at any time; what changes is called while the registry's
    lock is held, but for :meth:`fill`.
    """

    directory: Path
    unfinished: tuple[str, ...]
    """Files that :meth:`mark` may leave where the process dies in it."""

    def __init__(self, directory: Path) -> None:
        """Use the files below ``directory``."""

    def check(self) -> None:
        """Refuse a directory that is no registry of this layout.

        Raises:
            UserError: it is none, or is of a newer schema.
        """

    def mark(self) -> None:
        """Make a registry without entries of a directory that has none.

        Raises:
            OSError: it cannot be written.
            UserError: likewise.
        """

    def pointed(self, pair: Pair) -> Place:
        """Return the entry that made what is current, as its pointer says.

        Raises:
            Damaged: what says so was changed by something else.
            OSError: it cannot be read.
        """

    def pointers(self) -> Mapping[Pair, Place]:
        """Return what :meth:`pointed` does for every model and target.

        Raises:
            Damaged: one of them was changed by something else.
            OSError: one cannot be read.
        """

    def pointer(self, pair: Pair) -> Path:
        """Return the file that says so."""

    def point(self, entry: Entry, stack: Sequence[Entry]) -> None:
        """Let an entry take effect, in one step.

        Args:
            entry: what is done.
            stack: the entries that make what stands afterwards, the current one last.

        Raises:
            UserError: it cannot be written; what was current is.
        """

    def holds(self, digest: str) -> bool:
        """Return whether a bundle is there."""

    def check_whole(self, digest: str) -> None:
        """Read every file of a bundle.

        Raises:
            Rejected: one of them was changed.
            UserError: one cannot be read.
        """

    def check_present(self, digest: str) -> None:
        """Look for every file of a bundle, without reading them.

        Raises:
            Rejected: one is missing.
            UserError: the bundle is not there.
        """

    def fill(self, place: Path, bundle: Path, verified: Verified) -> None:
        """Copy a verified bundle to ``place``, and verify the copy.

        Raises:
            Rejected: it changed meanwhile.
            OSError: it cannot be written.
        """

    def adopt(self, place: Path, digest: str) -> None:
        """Move what :meth:`fill` made to where bundles lie, durably.

        Raises:
            OSError: it cannot be moved.
        """

    def statement(self, digest: str) -> Statement:
        """Return what the certificate of a bundle says, without verifying it.

        Raises:
            Rejected: it cannot be understood.
            UserError: it cannot be read.
        """

    def location(self, digest: str) -> Path:
        """Return what a person finds a bundle by: a directory, or the file that names its files."""

    def unpack(self, digest: str, place: Path) -> None:
        """Copy the files of a bundle to the empty directory ``place``.

        Raises:
            Rejected: a file is missing, or its name leads elsewhere.
            OSError: one cannot be written.
        """


class PlainLayout:
    """``registry.json``, ``bundles/<digest>/`` and ``pointers/<model>/<target>.json``."""

    unfinished: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        """Use the files below ``directory``."""
        self.directory = directory

    def check(self) -> None:
        """See :class:`Layout`."""
        path = self.directory / MARK
        check_is_there(self.directory)
        try:
            schema = json.loads(path.read_bytes())["schema"]
        except FileNotFoundError:
            raise no_registry(self.directory, f"it has no {MARK}") from None
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
        except (ValueError, KeyError, TypeError):
            schema = None
        check_schema(schema, path)

    def mark(self) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.files import write_atomically

        write_atomically(self.directory / MARK, json.dumps({"schema": SCHEMA}) + "\n")

    def pointed(self, pair: Pair) -> Place:
        """See :class:`Layout`."""
        try:
            return _place(_read_pointer(self.pointer(pair)))
        except FileNotFoundError:
            return NOWHERE

    def pointers(self) -> Mapping[Pair, Place]:
        """See :class:`Layout`."""
        found = map(_read_pointer, sorted((self.directory / "pointers").glob("*/*.json")))
        return {(each["model"], each["target"]): _place(each) for each in found}

    def pointer(self, pair: Pair) -> Path:
        """See :class:`Layout`."""
        model, target = map(portable_name, pair)
        return self.directory / "pointers" / model / f"{target}.json"

    def point(self, entry: Entry, stack: Sequence[Entry]) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.files import write_atomically

        content = json.dumps(_pointer(entry, stack), indent=2) + "\n"
        write_atomically(self.pointer(entry.pair), content)

    def holds(self, digest: str) -> bool:
        """See :class:`Layout`."""
        return self.location(digest).exists()

    def check_whole(self, digest: str) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.promote.registry_files import check_copy

        check_copy(self.location(digest), digest)

    def check_present(self, digest: str) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.promote.verification import check_names

        check_names(self.location(digest))

    def fill(self, place: Path, bundle: Path, verified: Verified) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.promote.registry_files import check_copy, copy_files
        from pytest_edgeai.promote.verification import CERTIFICATE, Rejected

        copy_files(bundle, place, [*verified.statement.files, CERTIFICATE])
        try:
            check_copy(place, verified.digest)
        except Rejected:
            raise Rejected(f"{bundle}: it changed while it was copied") from None

    def adopt(self, place: Path, digest: str) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.files import sync_directory

        stored = self.location(digest)
        if stored.exists():
            return
        stored.parent.mkdir(exist_ok=True)
        place.rename(stored)
        sync_directory(stored.parent)

    def statement(self, digest: str) -> Statement:
        """See :class:`Layout`."""
        from pytest_edgeai.promote.verification import read_statement

        return read_statement(self.location(digest))

    def location(self, digest: str) -> Path:
        """Return the directory of a bundle."""
        return self.directory / "bundles" / digest

    def unpack(self, digest: str, place: Path) -> None:
        """See :class:`Layout`."""
        from pytest_edgeai.promote.registry_files import copy_files
        from pytest_edgeai.promote.verification import CERTIFICATE

        self.check_present(digest)
        copy_files(self.location(digest), place, [*self.statement(digest).files, CERTIFICATE])


def _read_pointer(path: Path) -> Mapping[str, Any]:
    """Return what a pointer says.

    Raises:
        Damaged: it is none.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
        texts = [content["model"], content["target"], content.get("entry", "")]
        texts.append(content["current"]["bundle"])
        right = type(content["sequence"]) is int and all(type(each) is str for each in texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        right = False
    if not right:
        raise Damaged(f"{path} is damaged: it is no pointer")
    found: Mapping[str, Any] = content
    return found


def _place(pointer: Mapping[str, Any]) -> Place:
    # The digest is missing in what was written before pointers held it.
    return Place(pointer["sequence"], pointer["current"]["bundle"], pointer.get("entry", ""))


def _pointer(entry: Entry, stack: Sequence[Entry]) -> dict[str, Any]:
    """Return what a pointer says; paths are relative to the registry."""
    named = current_and_previous(stack)
    return {
        "schema": POINTER_SCHEMA,
        "model": entry.model,
        "target": entry.target,
        "sequence": entry.sequence,
        "entry": digest_of(entry),
        **{
            name: each
            and {
                "bundle": each.bundle,
                "path": f"bundles/{each.bundle}",
                "candidate": each.candidate,
            }
            for name, each in named.items()
        },
    }


def check_is_there(directory: Path) -> None:
    """Refuse what is no directory.

    Raises:
        UserError: it is none.
    """
    if not directory.is_dir():
        what = "is no directory" if os.path.lexists(directory) else "does not exist"
        raise UserError(what, where=str(directory), allowed="the directory of a registry")


def no_registry(directory: Path, why: str) -> UserError:
    """Return the error for a directory that is no registry."""
    return UserError(
        f"is no registry: {why}",
        where=str(directory),
        allowed="a registry; promoting makes one of an empty or new directory",
    )


def check_schema(schema: object, path: Path) -> None:
    """Refuse a registry that this version does not know.

    Raises:
        UserError: it is of another schema.
    """
    if schema == SCHEMA:
        return
    if isinstance(schema, str) and schema.startswith(_FAMILY):
        raise UserError(
            f"is of schema {schema}, and this version of pytest-edgeai knows {SCHEMA}",
            where=str(path),
            advice="use a newer one",
        )
    raise UserError("does not mark a registry", where=str(path), allowed=f"schema {SCHEMA}")


def is_vacant(directory: Path, left: Iterable[str]) -> bool:
    """Return whether a registry may be made there: nothing is, or what a dying process left.

    Args:
        directory: any path.
        left: how the names begin of what it may have left.
    """
    begins = tuple(left)
    try:
        return all(path.name.startswith(begins) for path in directory.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False
