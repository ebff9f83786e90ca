"""Whether a bundle is what its certificate says: offline, and each file read once.

The rejection of a bundle is a :class:`Rejected`, one line; what the caller got wrong (no such
directory, a key that is none) is a :class:`~pytest_edgeai.errors.UserError`.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.dsse import Envelope, parse
from pytest_edgeai.promote.keys import PublicKey, public_key
from pytest_edgeai.promote.statement import Statement, parse_statement

CERTIFICATE = "certificate.json"
POINTER = "current.json"
_NAME = re.compile(r"[0-9a-f]+(-[0-9a-f]+)?")
_LARGEST_CERTIFICATE_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 18
_SHOWN = 3


class Rejected(EdgeAIError):
    """A bundle that must not be used."""


@dataclass(frozen=True)
class Verified:
    """A bundle that is what its certificate says.

    Attributes:
        statement: the certificate's content.
        keyid: hex SHA-256 of the key that signed it, in DER.
        trusted: whether that key is one that the caller gave; otherwise anybody can have signed.
        digest: content address of the bundle, see :func:`bundle_digest`.
        size_bytes: sum over its files.
    """

    statement: Statement
    keyid: str
    trusted: bool
    digest: str
    size_bytes: int


def verify_bundle(bundle: Path, key: PublicKey | None, *, now: datetime.datetime) -> Verified:
    """Verify a bundle; every file in it is read once and none outside of it.

    Args:
        bundle: its directory.
        key: the key that must have signed; ``None`` accepts any, and then nothing is known about
            who signed.
        now: the time, with its offset from UTC.

    Raises:
        Rejected: it is not to be used; names the first reasons.
        UserError: there is no such directory, or it cannot be read.
    """
    check_is_directory(bundle)
    try:
        with _regular_file(bundle / CERTIFICATE) as stream:
            content = stream.read(_LARGEST_CERTIFICATE_BYTES + 1)
    except FileNotFoundError:
        if (bundle / "bundle.json").exists():
            raise Rejected(f"{bundle}: it has no {CERTIFICATE}, so it was never signed") from None
        raise Rejected(
            f"{bundle}: it is no bundle; give the directory of one, which has a {CERTIFICATE}, or "
            f"that of a candidate, which has a {POINTER}"
        ) from None
    except OSError as error:
        raise _unreadable(bundle / CERTIFICATE, error) from None
    statement, signer = _opened(bundle, content, key)
    if now >= statement.expires:
        raise Rejected(
            f"{bundle}: its certificate expired at {statement.expires.isoformat()}; promote anew"
        )
    digests, size_bytes = _digest_tree(bundle)
    _compare(bundle, statement.files, digests)
    return Verified(statement, signer.keyid, key is not None, bundle_digest(digests), size_bytes)


def read_statement(bundle: Path) -> Statement:
    """Return what a certificate says, without verifying anything.

    Raises:
        Rejected: it cannot be understood.
        UserError: it cannot be read.
    """
    path = bundle / CERTIFICATE
    try:
        return parse_statement(parse(path.read_bytes()).payload)
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError as error:
        raise Rejected(f"{path}: {error}") from None


def current_bundle(path: Path) -> Path:
    """Return the bundle that was promoted last, for the directory of a candidate; else ``path``.

    Raises:
        Rejected: the candidate's pointer is damaged, or leads elsewhere.
        UserError: it cannot be read.
    """
    pointer = path / POINTER
    if not pointer.is_file():
        return path
    try:
        name = json.loads(pointer.read_bytes())["bundle"]
    except OSError as error:
        raise _unreadable(pointer, error) from None
    except (ValueError, KeyError, TypeError) as error:
        raise Rejected(f"{pointer} is damaged: {error}") from None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Rejected(f"{pointer} is damaged: {name!r} is no bundle")
    return path / name


def check_names(bundle: Path) -> None:
    """Check that a bundle has the files that its certificate names, without reading them.

    Raises:
        Rejected: files are missing or were added.
        UserError: it cannot be read.
    """
    check_is_directory(bundle)
    expected = read_statement(bundle).files
    _compare(bundle, expected, {name: expected.get(name, "") for name, _ in _walk(bundle, "")})


def bundle_digest(digests: Mapping[str, str]) -> str:
    """Return the content address of a bundle.

    The hex SHA-256 over the lines ``SHA256␠␠NAME`` that ``sha256sum`` prints, sorted by the bytes
    of the names; a backslash, line feed or carriage return in a name is escaped as there.

    Args:
        digests: name in the bundle, in POSIX form, to hex SHA-256; the certificate included.
    """
    total = hashlib.sha256()
    encoded = {name.encode("utf-8", "surrogateescape"): value for name, value in digests.items()}
    for name in sorted(encoded):
        safe = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        mark = b"\\" if safe != name else b""
        total.update(b"%b%b  %b\n" % (mark, encoded[name].encode("ascii"), safe))
    return total.hexdigest()


def _opened(bundle: Path, content: bytes, key: PublicKey | None) -> tuple[Statement, PublicKey]:
    """Return what a certificate says and who signed it, the signature verified."""
    where = f"{bundle}: its {CERTIFICATE}"
    if len(content) > _LARGEST_CERTIFICATE_BYTES:
        raise Rejected(f"{where} is too large")
    try:
        envelope = parse(content)
        if key is not None:
            _check_signature(where, envelope, key)
        statement = parse_statement(envelope.payload)
        signer = public_key(statement.public_key)
    except ValueError as error:
        raise Rejected(f"{where} cannot be trusted: {error}") from None
    _check_signature(where, envelope, signer)
    return statement, signer


def _check_signature(where: str, envelope: Envelope, key: PublicKey) -> None:
    if envelope.keyid != key.keyid:
        raise Rejected(
            f"{where} was signed by another key: {envelope.keyid[:16]} and not {key.keyid[:16]}"
        )
    if not envelope.is_signed_by(key):
        raise Rejected(f"{where} was changed: the signature of {key.keyid[:16]} does not fit it")


def check_is_directory(bundle: Path) -> None:
    """Refuse what is no directory.

    Raises:
        UserError: it is none.
    """
    if not bundle.is_dir():
        what = "is no directory" if os.path.lexists(bundle) else "does not exist"
        raise UserError(what, where=str(bundle), allowed="the directory of a bundle")


def _digest_tree(bundle: Path) -> tuple[dict[str, str], int]:
    """Return the digest of every file below ``bundle`` by its name, and their size.

    Raises:
        Rejected: something there is neither a file nor a directory, or a directory is empty.
        UserError: a file cannot be read.
    """
    digests: dict[str, str] = {}
    size_bytes = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    for name, path in _walk(bundle, ""):
        digest = hashlib.sha256()
        try:
            with _regular_file(path) as stream:
                while read := stream.readinto(block):  # type: ignore[attr-defined]
                    digest.update(block[:read])
                    size_bytes += read
        except OSError as error:
            raise _unreadable(path, error) from None
        digests[name] = digest.hexdigest()
    return digests, size_bytes


def _walk(directory: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(directory, error) from None
    if not entries:
        raise Rejected(f"{directory}: an empty directory does not belong to a bundle")
    for entry in entries:
        name = prefix + entry.name
        path = directory / entry.name
        if entry.is_symlink():
            raise Rejected(f"{path}: it is a symbolic link, which can lead out of the bundle")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield name, path
        else:
            raise Rejected(f"{path}: it is neither a file nor a directory")


def _regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, and nothing that took its place.

    Raises:
        OSError: it cannot be opened.
        Rejected: it is a symbolic link, a pipe or a device.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Rejected(f"{path}: it is a symbolic link") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Rejected(f"{path}: it is no regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _compare(bundle: Path, expected: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Refuse files that are missing, were added or changed."""
    problems = [f"{name} is missing" for name in expected if name not in digests]
    problems += [
        f"{name} does not belong to it"
        for name in digests
        if name not in expected and name != CERTIFICATE
    ]
    problems += [
        f"{name} was changed"
        for name in expected
        if digests.get(name, expected[name]) != expected[name]
    ]
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = ", ".join(problem.replace("\n", "?") for problem in problems[:_SHOWN])
        raise Rejected(f"{bundle}: {shown}{more}")


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be read: {error.strerror or error}", where=str(path))
