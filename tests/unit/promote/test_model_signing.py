"""OpenSSF Model Signing, by its own package."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from promotions import private_pem, public_pem

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.model_signing import sign_folder, signature_of, verify_folder
from pytest_edgeai.promote.verification import Rejected

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("model_signing", "OpenSSL"))),
    reason='needs: pip install "pytest-edgeai[model-signing]"',
)


def write_pair(folder: Path, name: str, curve: str = "SECP256R1", passphrase: bytes = b"") -> Path:
    """Write a private key, and the public one beside it."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    hidden: Any = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
    path = folder / f"{name}.pem"
    path.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden))
    path.chmod(0o600)
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / f"{name}.pub").write_bytes(public)
    return path


@pytest.fixture(name="keys")
def keys_fixture(tmp_path: Path) -> Path:
    """A directory with two pairs of keys, ``one`` and ``other``."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("one", "other"):
        write_pair(folder, name)
    return folder


@pytest.fixture(name="signature")
def signature_fixture(bundle: Path, keys: Path) -> Path:
    assert sign_folder(bundle, keys / "one.pem", signature_of(bundle)) == ""
    return signature_of(bundle)


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_what_was_signed_verifies(bundle: Path, keys: Path, curve: str) -> None:
    key = write_pair(keys, "third", curve)
    before = sorted(path for path in bundle.rglob("*"))
    sign_folder(bundle, key, signature_of(bundle))
    verify_folder(bundle, keys / "third.pub", signature_of(bundle))
    assert sorted(path for path in bundle.rglob("*")) == before
    assert signature_of(bundle).parent == bundle.parent


def test_others_verify_it_with_the_tool_of_openssf(
    bundle: Path, keys: Path, signature: Path
) -> None:
    words = ["verify", "key", str(bundle), "--signature", str(signature)]
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", *words, "--public_key", str(keys / "one.pub")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_key_is_rejected(bundle: Path, keys: Path, signature: Path) -> None:
    with pytest.raises(Rejected, match="does not fit it: Key mismatch"):
        verify_folder(bundle, keys / "other.pub", signature)


def change(bundle: Path) -> None:
    (bundle / "artifact" / "model.bin").write_bytes(b"weightz" * 1000)


def add(bundle: Path) -> None:
    (bundle / "added").write_text("")


def add_what_git_ignores(bundle: Path) -> None:
    (bundle / ".gitignore").write_text("*")


def remove(bundle: Path) -> None:
    (bundle / "README.md").unlink()


@pytest.mark.parametrize("tamper", [change, add, add_what_git_ignores, remove])
def test_a_folder_that_was_changed_is_rejected(
    bundle: Path, keys: Path, signature: Path, tamper: Callable[[Path], None]
) -> None:
    tamper(bundle)
    with pytest.raises(Rejected, match="does not fit it: Signature mismatch"):
        verify_folder(bundle, keys / "one.pub", signature)


def test_a_signature_that_was_changed_is_rejected(
    bundle: Path, keys: Path, signature: Path
) -> None:
    whole = json.loads(signature.read_text())
    envelope = whole["dsseEnvelope"]
    raw = base64.b64decode(envelope["payload"])
    forged = base64.b64encode(raw.replace(b"sha256", b"blake2")).decode()
    broken = ["", "{", "{}", json.dumps(whole | {"dsseEnvelope": envelope | {"payload": forged}})]
    for text in broken:
        signature.write_text(text)
        with pytest.raises(Rejected) as caught:
            verify_folder(bundle, keys / "one.pub", signature)
        assert "\n" not in str(caught.value)
        if text in broken[:3]:
            assert str(caught.value).endswith("does not fit it: it is no Sigstore bundle")
    signature.unlink()
    with pytest.raises(Rejected, match="has no signature"):
        verify_folder(bundle, keys / "one.pub", signature)


def test_a_key_of_another_kind_is_one_line(bundle: Path, keys: Path) -> None:
    (keys / "ed.pem").write_bytes(private_pem())
    (keys / "ed.pub").write_bytes(public_pem())
    (keys / "none.pem").write_text("secret")
    write_pair(keys, "locked", passphrase=b"word")
    write_pair(keys, "small", "SECP256K1")
    for name, message in {
        "ed": "another kind of key",
        "none": "is no private key",
        "locked": "encrypted with a passphrase",
        "small": "is of the curve secp256k1",
        "missing": "cannot be read: No such file",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            sign_folder(bundle, keys / f"{name}.pem", signature_of(bundle))
        assert "openssl ecparam" in str(caught.value)
        assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="another kind of key"):
        verify_folder(bundle, keys / "ed.pub", signature_of(bundle))
    with pytest.raises(UserError, match="is no public key"):
        verify_folder(bundle, keys / "one.pem", signature_of(bundle))
    assert not signature_of(bundle).exists()


def test_nothing_is_overwritten_or_put_into_the_bundle(
    bundle: Path, keys: Path, signature: Path
) -> None:
    with pytest.raises(UserError, match="nothing is overwritten"):
        sign_folder(bundle, keys / "one.pem", signature)
    with pytest.raises(UserError, match="lies in the bundle"):
        sign_folder(bundle, keys / "one.pem", bundle / "model.sig")
    with pytest.raises(UserError, match="cannot be signed: No such file"):
        sign_folder(bundle, keys / "one.pem", bundle.parent / "nowhere" / "model.sig")
    assert not list(bundle.parent.glob(".tmp-*"))


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_key_that_others_can_read_is_warned_about(bundle: Path, keys: Path) -> None:
    (keys / "one.pem").chmod(0o644)
    warning = sign_folder(bundle, keys / "one.pem", signature_of(bundle))
    assert "open to others (mode 0644)" in warning
