from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from promotions import private_pem, public_pem, signing_key

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.keys import (
    SigningKey,
    generate_key,
    public_key,
    read_public_key,
    read_signing_key,
)

SECRET = re.compile(rb"-----BEGIN [A-Z ]+-----\n(.*?)-----END", re.DOTALL)
posix = pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")


def read(path: Path) -> SigningKey:
    return read_signing_key(path, "", where="--edge-signing-key", variable="VARIABLE")


def pem_of(kind: str) -> bytes:
    """Return a private key that cannot sign here."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

    made: dict[str, Callable[[], Any]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed448": ed448.Ed448PrivateKey.generate,
        "x25519": x25519.X25519PrivateKey.generate,
    }
    key = made.get(kind, ed25519.Ed25519PrivateKey.generate)()
    style = {
        "openssh": form.PrivateFormat.OpenSSH,
        "traditional": form.PrivateFormat.TraditionalOpenSSL,
    }.get(kind, form.PrivateFormat.PKCS8)
    encrypted = kind == "encrypted"
    lock = form.BestAvailableEncryption(b"secret") if encrypted else form.NoEncryption()
    content: bytes = key.private_bytes(form.Encoding.PEM, style, lock)
    return content


def old_encrypted() -> bytes:
    """Return a key that is encrypted in OpenSSL's old format."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65537, 2048).private_bytes(
        form.Encoding.PEM,
        form.PrivateFormat.TraditionalOpenSSL,
        form.BestAvailableEncryption(b"secret"),
    )


def test_a_new_key_signs_and_its_public_half_verifies(tmp_path: Path) -> None:
    private_pem()
    key, beside = generate_key(tmp_path / "key.pem")
    assert beside == tmp_path / "key.pem.pub"
    signer = read(tmp_path / "key.pem")
    assert signer.public == key == read_public_key(beside, where="--key")
    assert key.verifies(signer.sign(b"message"), b"message")
    assert not key.verifies(signer.sign(b"message"), b"massage")
    assert signer.warning == ""
    assert public_key(key.raw) == key


@posix
def test_a_new_key_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    private_pem()
    before = os.umask(0)
    try:
        generate_key(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("taken", ["key.pem", "key.pem.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    private_pem()
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match="never overwritten"):
        generate_key(tmp_path / "key.pem")
    assert [file.name for file in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    private_pem()
    with pytest.raises(UserError, match="cannot be written: No such file"):
        generate_key(tmp_path / "missing" / "key.pem")


def test_the_key_id_is_the_digest_of_the_der_form() -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    der = load_pem_public_key(public_pem()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert signing_key().public.keyid == hashlib.sha256(der).hexdigest()


def test_a_key_does_not_show_itself() -> None:
    shown = repr(signing_key())
    assert "rivate" not in shown
    assert signing_key().public.keyid in shown


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rsa", "is a key of RSA and not of Ed25519"),
        ("ec", r"is a key of elliptic curves \(ECDSA\) and not of Ed25519"),
        ("ed448", "is a key of Ed448 and not of Ed25519"),
        ("x25519", "is a key of X25519 and not of Ed25519"),
        ("encrypted", "is encrypted with a passphrase"),
        ("openssh", "is a key of OpenSSH's own format"),
        ("public", "is a public key, which cannot sign"),
        ("old encrypted", "is encrypted with a passphrase"),
        ("cut", "is damaged, or of an unknown kind"),
        ("der", "is not in PEM"),
        ("empty", "is not in PEM"),
        ("certificate", "holds a certificate, not a private key"),
        ("large", "is too large for a key"),
    ],
)
def test_a_key_that_cannot_sign_is_one_line_without_its_content(
    tmp_path: Path, kind: str, message: str
) -> None:
    made: dict[str, Callable[[], bytes]] = {
        "public": public_pem,
        "old encrypted": old_encrypted,
        "cut": lambda: private_pem()[:60] + b"\n-----END PRIVATE KEY-----\n",
        "der": lambda: b"\x30\x2e\x02\x01",
        "empty": bytes,
        "certificate": lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "large": lambda: private_pem() + b" " * 70_000,
    }
    private_pem()
    content = made[kind]() if kind in made else pem_of(kind)
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(f"--edge-signing-key {path}: ")
    assert "\n" not in line
    body = SECRET.search(content)
    assert body is None or body[1].split()[0].decode() not in line


def test_a_key_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file .*Make one with: pytest-edgeai keygen"):
        read(tmp_path / "key.pem")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"No such file .*Ask whoever signed it") as caught:
        read_public_key(tmp_path / "key.pub", where="--key")
    assert "make one" not in str(caught.value).lower()


@posix
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is no regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is no regular file"):
        read_public_key(tmp_path / "pipe", where="--key")


@posix
@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o644, True), (0o640, True)]
)
def test_a_key_that_others_can_read_is_warned_about(
    tmp_path: Path, mode: int, warned: bool
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem())
    path.chmod(mode)
    warning = read(path).warning
    assert bool(warning) is warned
    if warned:
        assert f"(mode {mode:04o}); run: chmod 600 {path}" in warning


def test_the_environment_can_hold_the_key_itself(tmp_path: Path) -> None:
    assert signing_key(3).public != signing_key(4).public
    with pytest.raises(UserError, match="THE_VARIABLE: is not in PEM") as caught:
        read_signing_key(None, "hunter2", where="", variable="THE_VARIABLE")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UserError, match="two signing keys"):
        read_signing_key(tmp_path, "text", where="--edge-signing-key", variable="VARIABLE")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("private", "is a private key.*keep this secret"),
        ("rsa", "is a key of RSA and not of Ed25519"),
        ("text", "is not in PEM"),
        ("cut", "is damaged"),
    ],
)
def test_a_public_key_that_is_none_is_one_line(tmp_path: Path, kind: str, message: str) -> None:
    private = private_pem()
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    contents = {
        "private": private,
        "rsa": rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "text": b"text",
        "cut": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    }
    path = tmp_path / "key.pub"
    path.write_bytes(contents[kind])
    with pytest.raises(UserError, match=message):
        read_public_key(path, where="--key")


def test_without_cryptography_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem())
    script = """
import sys
from pathlib import Path
sys.modules["cryptography"] = None
from pytest_edgeai.promote.keys import read_signing_key
try:
    read_signing_key(Path(sys.argv[1]), "", where="flag", variable="VARIABLE")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "key.pem")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("UserError keys and signatures need the package cryptography")
    assert 'pip install "pytest-edgeai[promote]"' in done.stdout
