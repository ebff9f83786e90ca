"""Ed25519 keys of promotions: read from a file or the environment, never printed.

``cryptography`` is imported where a key is used, so that nobody pays for it who signs nothing.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_edgeai.errors import UserError
from pytest_edgeai.files import sync_directory

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

INSTALL = 'pip install "pytest-edgeai[promote]"'
PRIVATE_ALLOWED = "an Ed25519 private key in PEM (PKCS #8) without a passphrase"
PUBLIC_ALLOWED = "an Ed25519 public key in PEM"
_MAKE = "make one with: pytest-edgeai keygen PATH"
_ASK = "ask whoever signed it for the public key, which keygen wrote beside theirs"
_LARGEST_BYTES = 1 << 16
_RAW_BYTES = 32
_PEM = b"-----BEGIN "


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are verified with.

    Attributes:
        raw: the 32 bytes of RFC 8032.
        keyid: hex SHA-256 of its DER encoding (SubjectPublicKeyInfo, RFC 8410).
    """

    raw: bytes
    keyid: str

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether ``signature`` is this key's of ``message``."""
        _require()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A key that promotions are signed with.

    Attributes:
        public: what verifies its signatures.
        warning: what is wrong with how it is kept; empty where nothing is.
    """

    public: PublicKey
    warning: str
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of ``message``: 64 bytes, always the same ones (RFC 8032)."""
        return self._private.sign(message)


def public_key(raw: bytes) -> PublicKey:
    """Return the key of 32 raw bytes.

    Raises:
        ValueError: they are no Ed25519 key.
    """
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(raw) != _RAW_BYTES:
        raise ValueError(f"an Ed25519 public key has {_RAW_BYTES} bytes, and not {len(raw)}")
    return _public(Ed25519PublicKey.from_public_bytes(raw))


def _public(key: Ed25519PublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key.public_bytes_raw(), hashlib.sha256(der).hexdigest())


def read_signing_key(path: Path | None, text: str, *, where: str, variable: str) -> SigningKey:
    """Return the key that promotions are signed with.

    Args:
        path: its file; ``None`` where ``text`` is the key.
        text: the key itself in PEM; empty where ``path`` names it.
        where: who set ``path``, for errors.
        variable: the variable that ``text`` was read from, for errors.

    Raises:
        UserError: both are given, or it is no key that can sign; its content is never shown.
    """
    if path is not None and text:
        raise UserError(
            "two signing keys", where=f"{where} and {variable}", allowed="one of the two"
        )
    if path is None:
        return _signing_key(text.encode("utf-8", "surrogateescape"), variable, "")
    place = f"{where} {path}"
    content, mode = _read(path, place, _MAKE)
    warning = ""
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and os.name != "nt":
        warning = (
            f"the signing key {path} is open to others (mode {stat.S_IMODE(mode):04o}); "
            f"run: chmod 600 {path}"
        )
    return _signing_key(content, place, warning)


def _signing_key(content: bytes, where: str, warning: str) -> SigningKey:
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    def wrong(what: str, advice: str = _MAKE) -> UserError:
        return UserError(what, where=where, allowed=PRIVATE_ALLOWED, advice=advice)

    kind = _pem_kind(content)
    if not kind:
        raise wrong("is not in PEM")
    if kind == "PUBLIC KEY":
        raise wrong("is a public key, which cannot sign", "give the private key of the pair")
    if kind == "OPENSSH PRIVATE KEY":
        raise wrong("is a key of OpenSSH's own format")
    if "PRIVATE KEY" not in kind:
        raise wrong(f"holds a {kind.lower()}, not a private key")
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise wrong("is encrypted with a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        encrypted = "ENCRYPTED" in kind or b"ENCRYPTED" in content
        raise wrong(
            "is encrypted with a passphrase" if encrypted else "is damaged, or of an unknown kind"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise wrong(f"is {_kind_of(key)} and not of Ed25519")
    return SigningKey(_public(key.public_key()), warning, key)


def read_public_key(path: Path, *, where: str) -> PublicKey:
    """Return the key that a bundle is verified with.

    Args:
        path: its file.
        where: the option that names it, for errors.

    Raises:
        UserError: it is no Ed25519 public key in PEM.
    """
    place = f"{where} {path}"
    content, _ = _read(path, place, _ASK)
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    def wrong(what: str, advice: str = "") -> UserError:
        return UserError(what, where=place, allowed=PUBLIC_ALLOWED, advice=advice)

    kind = _pem_kind(content)
    if not kind:
        raise wrong("is not in PEM")
    if "PRIVATE KEY" in kind:
        raise wrong(
            "is a private key",
            "give the public one, which keygen writes beside it as PATH.pub, and keep this secret",
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise wrong("is damaged, or of an unknown kind") from None
    if not isinstance(key, Ed25519PublicKey):
        raise wrong(f"is {_kind_of(key)} and not of Ed25519")
    return _public(key)


def generate_key(path: Path) -> tuple[PublicKey, Path]:
    """Write a new private key, which its owner alone may read, and the public one beside it.

    Args:
        path: the private key's file; the public key goes to ``PATH.pub``.

    Returns:
        The public key and its file.

    Raises:
        UserError: one of the files exists, or cannot be written. Nothing is overwritten.
    """
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    beside = path.with_name(path.name + ".pub")
    for file in (path, beside):
        if os.path.lexists(file):
            raise UserError(
                "exists, and keys are never overwritten", where=str(file), allowed="a new path"
            )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    written: list[Path] = []
    try:
        for file, content, mode in ((path, private, 0o600), (beside, public, 0o644)):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(file)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        sync_directory(path.parent)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise UserError(
            f"cannot be written: {error.strerror or error}", where=str(error.filename or path)
        ) from None
    return _public(key.public_key()), beside


def encode_raw(key: PublicKey) -> str:
    """Return the raw bytes of a key in base64, as certificates name them."""
    return base64.b64encode(key.raw).decode("ascii")


def read_regular(path: Path, limit_bytes: int) -> tuple[bytes, int]:
    """Return the start of a regular file, and its mode; a pipe that nobody feeds is not waited for.

    Args:
        path: the file.
        limit_bytes: how much of it is read at most.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file, or its name cannot be one.
    """
    # A pipe opens at once with it, and is seen to be one.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise ValueError("it is no regular file")
        return stream.read(limit_bytes), mode


def _read(path: Path, where: str, advice: str) -> tuple[bytes, int]:
    """Return the content of a key's file, and its mode; the advice is for one that is missing."""
    try:
        content, mode = read_regular(path, _LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        missing = isinstance(error, OSError) and error.errno == errno.ENOENT
        raise UserError(
            f"the key cannot be read: {reason}", where=where, advice=advice if missing else ""
        ) from None
    if len(content) > _LARGEST_BYTES:
        raise UserError("is too large for a key", where=where, allowed="a PEM file")
    return content, mode


def _pem_kind(content: bytes) -> str:
    """Return the label of the first PEM block (RFC 7468); empty where there is none."""
    _, found, rest = content.partition(_PEM)
    label = rest.partition(b"-----")[0]
    plain = found and label.isascii() and len(label) < _RAW_BYTES
    return label.decode("ascii") if plain and b"\n" not in label else ""


def _kind_of(key: Any) -> str:
    """Return how a reader knows the kind of a key: ``a key of RSA``."""
    name = type(key).__name__.lstrip("_")
    for ending in ("PrivateKey", "PublicKey"):
        name = name.removesuffix(ending)
    # It is named otherwise in each version of the package.
    is_curve = name in ("EC", "EllipticCurve")
    return f"a key of {'elliptic curves (ECDSA)' if is_curve else name}"


def _require() -> None:
    """Refuse to go on without ``cryptography``."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UserError(
            "keys and signatures need the package cryptography", advice=f"run: {INSTALL}"
        ) from None
