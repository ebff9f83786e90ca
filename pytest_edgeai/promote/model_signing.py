"""OpenSSF Model Signing of a bundle's folder, for those who verify models with it everywhere.

https://github.com/sigstore/model-transparency. The signature is a Sigstore bundle that lies beside
the folder: a certificate vouches for every file in there, so none can be added. ``model-signing``
takes keys of the elliptic curves P-256, P-384 and P-521 and not of Ed25519, so it is another key
than that of the certificate. It is signed and verified offline; no transparency log is asked.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.keys import read_regular
from pytest_edgeai.promote.verification import Rejected

INSTALL = 'pip install "pytest-edgeai[model-signing]"'
SUFFIX = ".model.sig"
ALLOWED = "a key of the elliptic curve P-256, P-384 or P-521 in PEM, without a passphrase"
MAKE = "make one with: openssl ecparam -name prime256v1 -genkey -noout -out PATH"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_LARGEST_BYTES = 1 << 16


def signature_of(bundle: Path) -> Path:
    """Return where the signature of a folder lies: beside it."""
    whole = bundle.absolute()
    return whole.with_name(whole.name + SUFFIX)


def sign_folder(bundle: Path, key: Path, signature: Path) -> str:
    """Sign a folder, and write the signature.

    Args:
        bundle: the folder, verified before.
        key: the private key's file.
        signature: a file that does not exist, outside of the folder.

    Returns:
        What is wrong with how the key is kept; empty where nothing is.

    Raises:
        UserError: the key cannot sign, or the signature cannot be written.
    """
    if signature.absolute().is_relative_to(bundle.absolute()):
        raise UserError(
            "lies in the bundle, to which nothing can be added",
            where=str(signature),
            allowed="a file beside it",
        )
    if os.path.lexists(signature):
        raise UserError("exists, and nothing is overwritten", where=str(signature))
    mode = _check_key(key, private=True)
    package = _package()
    temporary = signature.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(6)}")
    try:
        with _quiet():
            config = package.signing.Config().set_hashing_config(_every_file(package))
            config.use_elliptic_key_signer(private_key=key).sign(bundle, temporary)
        temporary.replace(signature)
    except Exception as error:
        # What it raises differs by what is wrong, from ValueError to those of its dependencies.
        reason = error.strerror if isinstance(error, OSError) else _first_line(error)
        raise UserError(f"cannot be signed: {reason}", where=str(signature)) from None
    finally:
        temporary.unlink(missing_ok=True)
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and os.name != "nt":
        return (
            f"the signing key {key} is open to others (mode {stat.S_IMODE(mode):04o}); "
            f"run: chmod 600 {key}"
        )
    return ""


def verify_folder(bundle: Path, key: Path, signature: Path) -> None:
    """Verify a folder against its signature.

    Args:
        bundle: the folder.
        key: the public key's file.
        signature: the signature.

    Raises:
        Rejected: it was not signed with that key, or is not what was signed.
        UserError: the key is of no use, or the signature cannot be read.
    """
    _check_key(key, private=False)
    package = _package()
    if not signature.is_file():
        raise Rejected(f"{bundle}: it has no signature of OpenSSF Model Signing: {signature}")
    try:
        with _quiet():
            verifier = package.verifying.Config().set_hashing_config(_every_file(package))
            verifier.use_elliptic_key_verifier(public_key=key).verify(bundle, signature)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(signature)) from None
    except Exception as error:
        # Likewise: a signature that was changed can be anything. Where it cannot even be read, the
        # words are those of a parser, on several lines.
        readable = _holds_envelope(signature) and "\n" not in str(error).strip()
        reason = _first_line(error) if readable else "it is no Sigstore bundle"
        raise Rejected(f"{bundle}: {signature.name} does not fit it: {reason}") from None


def _holds_envelope(signature: Path) -> bool:
    """Return whether a file is JSON with the envelope that a Sigstore bundle has."""
    try:
        content = json.loads(signature.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("dsseEnvelope"), dict)


def _every_file(package: Any) -> Any:
    """Return how files are read: every one, also those of Git, which are left out by default."""
    config = package.hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=(), ignore_git_paths=False)


def _package() -> Any:
    try:
        with _quiet():
            return importlib.import_module("model_signing")
    except ImportError as error:
        raise UserError(
            f"OpenSSF Model Signing needs the package {error.name}", advice=f"run: {INSTALL}"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of other packages to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _check_key(path: Path, *, private: bool) -> int:
    """Refuse a key that it does not take; return the mode of its file.

    Raises:
        UserError: names the file, and never its content.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise UserError("keys need the package cryptography", advice=f"run: {INSTALL}") from None
    try:
        content, mode = read_regular(path, _LARGEST_BYTES)
    except ValueError as error:
        raise UserError(
            f"the key cannot be read: {error}", where=str(path), allowed="a file"
        ) from None
    except OSError as error:
        missing = private and error.errno == errno.ENOENT
        raise UserError(
            f"the key cannot be read: {error.strerror}",
            where=str(path),
            advice=MAKE if missing else "",
        ) from None

    def wrong(what: str) -> EdgeAIError:
        return UserError(what, where=str(path), allowed=ALLOWED, advice=MAKE)

    try:
        key: Any = (
            serialization.load_pem_private_key(content, password=None)
            if private
            else serialization.load_pem_public_key(content)
        )
    except TypeError:
        raise wrong("is encrypted with a passphrase") from None
    except Exception:
        # Which exception tells that there is none differs by the version of the package.
        raise wrong(f"is no {'private' if private else 'public'} key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        raise wrong("is of another kind of key, such as those that sign certificates")
    if key.curve.name not in _CURVES:
        raise wrong(f"is of the curve {key.curve.name}")
    return mode
