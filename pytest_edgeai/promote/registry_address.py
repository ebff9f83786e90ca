"""Which registry an address means: ``DIR``, ``oci:DIR`` or ``mlflow:URI``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.registry_log import Entry

if TYPE_CHECKING:
    # Listing a directory does without any of them.
    import datetime
    from collections.abc import Sequence

    from pytest_edgeai.promote.keys import PublicKey
    from pytest_edgeai.promote.registry_state import Snapshot
    from pytest_edgeai.promote.statement import Statement

ADDRESSES = "DIR, oci:DIR or mlflow:URI"
# One letter is a drive of Windows.
_KIND = re.compile("([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)


class ReadableRegistry(Protocol):
    """What every registry answers, at any time and without a lock."""

    def read(self) -> Snapshot:
        """Return the state.

        Raises:
            Damaged: it was changed by something else.
            UserError: it cannot be read.
        """

    def standing(self, model: str, target: str) -> Sequence[Entry]:
        """Return the entries that made what stands of a model for a target, the current one last.

        Raises:
            Damaged: it was changed by something else.
            UserError: nothing stands, or it cannot be read.
        """

    def statement(self, entry: Entry) -> Statement:
        """Return what the certificate of a bundle says, without verifying it.

        Raises:
            Rejected: it cannot be understood.
            UserError: it cannot be read.
        """

    def location(self, entry: Entry) -> str:
        """Return what a person finds a bundle by."""

    def unpack(self, entry: Entry, place: Path) -> None:
        """Copy the files of a bundle to the empty directory ``place``.

        Raises:
            Rejected: a file is missing.
            UserError: one cannot be read or written.
        """


class ChangeableRegistry(ReadableRegistry, Protocol):
    """What every registry does."""

    def promote(self, bundle: Path, key: PublicKey, *, now: datetime.datetime) -> Entry | None:
        """Make a bundle the current one; see :meth:`.registry.Registry.promote`."""

    def rollback(
        self, model: str, target: str, *, now: datetime.datetime, expected: int | None = None
    ) -> Entry:
        """Go back to the bundle before; see :meth:`.registry.Registry.rollback`."""


def split_address(address: str) -> tuple[str, str]:
    """Return the kind of a registry, and where it is.

    Returns:
        ``("", DIR)``, ``("oci", DIR)`` or ``("mlflow", URI)``.

    Raises:
        UserError: the address is of another kind, or incomplete.
    """
    found = _KIND.fullmatch(address)
    if found is None or os.path.lexists(address):
        if not address:
            raise UserError("no registry is named", allowed=ADDRESSES)
        return "", address
    kind, place = found[1], found[2]
    if kind not in ("oci", "mlflow"):
        raise UserError(f'"{kind}" is no kind of registry', where=address, allowed=ADDRESSES)
    if not place:
        raise UserError(f"nothing follows {kind}:", where=address, allowed=ADDRESSES)
    return kind, place


def registry_to_read(address: str) -> ReadableRegistry:
    """Return the registry of an address, for reading.

    Raises:
        UserError: there is none, or what it needs is not installed.
    """
    kind, place = split_address(address)
    if kind == "mlflow":
        from pytest_edgeai.promote.registry_mlflow import MlflowRegistry

        return MlflowRegistry(place)
    from pytest_edgeai.promote.registry_state import RegistryState

    if kind == "oci":
        from pytest_edgeai.promote.registry_oci import OciLayout

        return RegistryState(Path(place), OciLayout)
    return RegistryState(Path(place))


def registry_to_change(address: str, *, create: bool = False) -> ChangeableRegistry:
    """Return the registry of an address.

    Args:
        address: see :func:`split_address`.
        create: make one where nothing is.

    Raises:
        UserError: there is none, it cannot be made, or what it needs is not installed.
    """
    kind, place = split_address(address)
    if kind == "mlflow":
        from pytest_edgeai.promote.registry_mlflow import MlflowRegistry

        return MlflowRegistry(place, create=create)
    from pytest_edgeai.promote.registry import Registry

    if kind == "oci":
        from pytest_edgeai.promote.registry_oci import OciLayout

        return Registry(Path(place), OciLayout, create=create)
    return Registry(Path(place), create=create)


def promote_into(
    address: str, bundle: Path, key: PublicKey, *, now: datetime.datetime
) -> Entry | None:
    """Promote into the registry of an address, which is made where nothing is.

    A bundle that is not to be used is refused before anything is made.

    Raises what :meth:`.registry.Registry.promote` and :func:`registry_to_change` do.
    """
    from pytest_edgeai.promote.registry_state import as_user_error

    kind, place = split_address(address)
    with as_user_error(Path(place)):
        is_there = kind != "mlflow" and Path(place).is_dir() and any(Path(place).iterdir())
    if not is_there:
        from pytest_edgeai.promote.verification import verify_bundle

        verify_bundle(bundle, key, now=now)
    return registry_to_change(address, create=True).promote(bundle, key, now=now)


def fetch(registry: ReadableRegistry, entry: Entry, destination: Path, key: PublicKey) -> bool:
    """Copy a bundle out of a registry, and verify the copy.

    Args:
        registry: where it lies.
        entry: what made it current.
        destination: a new or empty directory, which appears in one step.
        key: the key that must have signed it.

    Returns:
        Whether its certificate is still valid; one that expired does not keep a device from
        getting what is current.

    Raises:
        Rejected: the bundle is not what was promoted.
        UserError: something cannot be read or written.
    """
    import datetime
    import secrets
    import shutil

    from pytest_edgeai.promote.registry_state import as_user_error
    from pytest_edgeai.promote.verification import Rejected, verify_bundle

    what = "nothing was fetched"
    with as_user_error(destination, what):
        if destination.is_symlink() or (destination.exists() and _holds_something(destination)):
            raise UserError(
                "exists, and nothing is overwritten",
                where=str(destination),
                allowed="a new or empty directory",
            )
        destination.parent.mkdir(parents=True, exist_ok=True)
        place = destination.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
        place.mkdir()
        try:
            registry.unpack(entry, place)
            try:
                found = verify_bundle(place, key, now=_before(entry))
            except EdgeAIError as error:
                # Where the copy lies is nobody's business: it is removed.
                stored = registry.location(entry)
                raise Rejected(str(error).replace(str(place), stored)) from None
            if found.digest != entry.bundle:
                raise Rejected(f"{registry.location(entry)}: it is another bundle")
            if destination.exists():
                destination.rmdir()
            place.rename(destination)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return datetime.datetime.now(datetime.UTC) < found.statement.expires


def _holds_something(path: Path) -> bool:
    return not path.is_dir() or any(path.iterdir())


def _before(entry: Entry) -> datetime.datetime:
    """Return a time at which the certificate of an entry was valid."""
    import datetime

    return datetime.datetime.fromisoformat(entry.expires) - datetime.timedelta(seconds=1)
