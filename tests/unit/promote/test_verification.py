from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from promotions import CREATED, NOW, private_pem, sign_again, signed_bundle, signing_key

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.dsse import parse
from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.promote.verification import (
    CERTIFICATE,
    Rejected,
    bundle_digest,
    check_names,
    read_statement,
    verify_bundle,
)


def files_of(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


@pytest.fixture(scope="module", name="kept")
def kept_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that tests leave as it was."""
    private_pem()
    return signed_bundle(tmp_path_factory.mktemp("kept"), signing_key(), b"w")


def test_a_bundle_verifies_with_and_without_the_key(bundle: Path, key: SigningKey) -> None:
    found = verify_bundle(bundle, key.public, now=NOW)
    assert found.trusted
    assert found.keyid == key.public.keyid
    statement = found.statement
    assert (statement.model, statement.target) == ("digits", "intel")
    names = {file.relative_to(bundle).as_posix() for file in files_of(bundle)}
    assert {*statement.files, CERTIFICATE} == names
    assert found.size_bytes == sum(file.stat().st_size for file in files_of(bundle))
    anybody = verify_bundle(bundle, None, now=NOW)
    assert anybody == dataclasses.replace(found, trusted=False)
    assert read_statement(bundle) == statement
    check_names(bundle)


def test_the_subject_holds_the_digests_that_anybody_computes(bundle: Path) -> None:
    content = json.loads(parse((bundle / CERTIFICATE).read_bytes()).payload)
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    digests = {each["name"]: each["digest"]["sha256"] for each in content["subject"]}
    for name, sha256 in digests.items():
        assert sha256 == hashlib.sha256((bundle / name).read_bytes()).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum of coreutils")
def test_the_digest_is_that_of_the_lines_of_sha256sum(bundle: Path, key: SigningKey) -> None:
    names = sorted(file.relative_to(bundle).as_posix() for file in files_of(bundle))
    done = subprocess.run(["sha256sum", *names], cwd=bundle, capture_output=True, check=True)
    found = verify_bundle(bundle, key.public, now=NOW)
    assert found.digest == hashlib.sha256(done.stdout).hexdigest()
    (bundle / "od\nd \\ name").write_bytes(b"x")
    odd = subprocess.run(
        ["sha256sum", "od\nd \\ name"], cwd=bundle, capture_output=True, check=True
    )
    assert bundle_digest({"od\nd \\ name": hashlib.sha256(b"x").hexdigest()}) == (
        hashlib.sha256(odd.stdout).hexdigest()
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_changed_bit_is_found(kept: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([f for f in files_of(kept) if f.stat().st_size]))
    before = file.read_bytes()
    bit = data.draw(st.integers(0, len(before) * 8 - 1))
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(changed)
        with pytest.raises(Rejected):
            verify_bundle(kept, signing_key().public, now=NOW)
        with pytest.raises(Rejected):
            verify_bundle(kept, None, now=NOW)
    finally:
        file.write_bytes(before)


def test_every_bit_of_the_certificate_counts(kept: Path) -> None:
    """Also those that its signature does not cover: spaces, key id, unused bits of base64."""
    file = kept / CERTIFICATE
    before = file.read_bytes()
    payload = parse(before).payload
    text = before.decode("ascii")
    start = text.index('"payload": "') + len('"payload": "')
    inside = range(start + 64, start + (len(payload) + 2) // 3 * 4 - 64)
    public = signing_key().public
    try:
        for position in range(len(before)):
            # The inner bytes of the payload are one signed string; each 97th stands for them.
            if position in inside and position % 97:
                continue
            for bit in range(8):
                changed = bytearray(before)
                changed[position] ^= 1 << bit
                file.write_bytes(changed)
                with pytest.raises(Rejected):
                    verify_bundle(kept, public if position % 2 else None, now=NOW)
    finally:
        file.write_bytes(before)
    verify_bundle(kept, public, now=NOW)


def test_every_file_is_missed(bundle: Path, key: SigningKey) -> None:
    for file in files_of(bundle):
        before = file.read_bytes()
        file.unlink()
        gone = file.parent != bundle and not list(file.parent.iterdir())
        with pytest.raises(Rejected, match=r"missing|never signed|empty directory"):
            verify_bundle(bundle, key.public, now=NOW)
        if gone:
            file.parent.rmdir()
            with pytest.raises(Rejected, match="is missing"):
                verify_bundle(bundle, key.public, now=NOW)
            file.parent.mkdir()
        file.write_bytes(before)
    verify_bundle(bundle, key.public, now=NOW)


def add_file(bundle: Path) -> None:
    (bundle / "artifact" / "more").write_text("")


def add_hidden(bundle: Path) -> None:
    (bundle / ".hidden").write_text("x")


def add_folder(bundle: Path) -> None:
    (bundle / "new").mkdir()


def add_report(bundle: Path) -> None:
    (bundle / "reports" / "0123456789ab").mkdir()
    (bundle / "reports" / "0123456789ab" / "report.json").write_text("{}")


def link_file(bundle: Path) -> None:
    weights = bundle / "artifact" / "model.bin"
    weights.rename(bundle.parent / "elsewhere")
    weights.symlink_to(bundle.parent / "elsewhere")


def link_folder(bundle: Path) -> None:
    folder = bundle / "artifact"
    folder.rename(bundle.parent / "outside")
    folder.symlink_to(bundle.parent / "outside")


def link_certificate(bundle: Path) -> None:
    certificate = bundle / CERTIFICATE
    certificate.rename(bundle.parent / "elsewhere")
    certificate.symlink_to(bundle.parent / "elsewhere")


def dangle(bundle: Path) -> None:
    (bundle / "dangling").symlink_to("nowhere")


def pipe(bundle: Path) -> None:
    os.mkfifo(bundle / "pipe")


def pipe_for_certificate(bundle: Path) -> None:
    (bundle / CERTIFICATE).unlink()
    os.mkfifo(bundle / CERTIFICATE)


def folder_for_file(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").mkdir()


def rename(bundle: Path) -> None:
    (bundle / "artifact" / "model.bin").rename(bundle / "artifact" / "Model.bin")


def swap(bundle: Path) -> None:
    one, two = bundle / "artifact" / "model.bin", bundle / "artifact" / "model.xml"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links and pipes of POSIX")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (add_file, "artifact/more does not belong to it"),
        (add_hidden, ".hidden does not belong to it"),
        (add_folder, "empty directory"),
        (add_report, "reports/0123456789ab/report.json does not belong"),
        (link_file, "model.bin: it is a symbolic link"),
        (link_folder, "artifact: it is a symbolic link"),
        (link_certificate, "certificate.json: it is a symbolic link"),
        (dangle, "dangling: it is a symbolic link"),
        (pipe, "pipe: it is neither a file nor a directory"),
        (pipe_for_certificate, "certificate.json: it is no regular file"),
        (folder_for_file, "empty directory"),
        (rename, "model.bin is missing, artifact/Model.bin does not belong to it"),
        (swap, "artifact/model.bin was changed, artifact/model.xml was changed"),
    ],
)
def test_a_bundle_with_other_files_is_rejected(
    bundle: Path, key: SigningKey, damage: Callable[[Path], None], message: str
) -> None:
    damage(bundle)
    with pytest.raises(Rejected, match=message) as caught:
        verify_bundle(bundle, key.public, now=NOW)
    assert "\n" not in str(caught.value)


def test_many_problems_stay_one_line(bundle: Path, key: SigningKey) -> None:
    for number in range(9):
        (bundle / f"{number}\n").write_text("")
    with pytest.raises(Rejected, match=r"0\? does not belong to it, .*, and 6 more$") as caught:
        verify_bundle(bundle, key.public, now=NOW)
    assert "\n" not in str(caught.value)


def test_another_key_is_rejected(bundle: Path) -> None:
    with pytest.raises(Rejected, match="signed by another key"):
        verify_bundle(bundle, signing_key(2).public, now=NOW)


def test_a_certificate_that_somebody_else_signed_again_is_rejected(
    bundle: Path, key: SigningKey
) -> None:
    """With the name of the key that it should be, with the one it is, and with both."""
    thief = signing_key(2)
    sign_again(bundle, thief, '"threads":1', '"threads":2')
    with pytest.raises(Rejected, match="signed by another key"):
        verify_bundle(bundle, key.public, now=NOW)
    with pytest.raises(Rejected, match="signed by another key"):
        verify_bundle(bundle, None, now=NOW)
    certificate = bundle / CERTIFICATE
    named = certificate.read_text().replace(thief.public.keyid, key.public.keyid)
    certificate.write_text(named)
    for given_key in (key.public, None):
        with pytest.raises(Rejected, match="the signature of"):
            verify_bundle(bundle, given_key, now=NOW)


def test_a_certificate_expires(tmp_path: Path, key: SigningKey) -> None:
    bundle = signed_bundle(tmp_path, key, days=2)
    end = CREATED + datetime.timedelta(days=2)
    verify_bundle(bundle, key.public, now=end - datetime.timedelta(seconds=1))
    with pytest.raises(Rejected, match=r"expired at 2026-11-24T03:00:00\+00:00"):
        verify_bundle(bundle, key.public, now=end)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("urn:pytest-edgeai:promotion:1", "urn:pytest-edgeai:promotion:2", "of schema 2"),
        ("urn:pytest-edgeai:promotion:1", "https://slsa.dev/provenance/v1", "states 'https://slsa"),
        ("in-toto.io/Statement/v1", "in-toto.io/Statement/v9", "no in-toto statement of version 1"),
        ('"name":"artifact/model.bin"', '"name":"../../model.bin"', "no path inside of the bundle"),
        ('"name":"artifact/model.bin"', '"name":"/etc/passwd"', "no path inside of the bundle"),
        ('"name":"artifact/model.bin"', '"name":"a//b"', "no path inside of the bundle"),
        ('"name":"artifact/model.bin"', '"name":"a\\\\b"', "no path inside of the bundle"),
        ('"name":"artifact/model.bin"', '"name":"bundle.json"', "twice or without"),
        ('"name":"artifact/model.bin"', '"name":3', "of another kind"),
        ('"subject":[', '"subject":["x",', "of another kind"),
        ('"expires":"2027', '"expires":"not a time 2027', "Invalid isoformat"),
        ('03:00:00+00:00","gates"', '03:00:00","gates"', "without its offset from UTC"),
        ('"predicate":{', '"predicate":[],"other":{', "of another kind"),
    ],
)
def test_a_signed_certificate_that_cannot_be_understood_is_rejected(
    bundle: Path, key: SigningKey, old: str, new: str, message: str
) -> None:
    sign_again(bundle, key, old, new)
    for given_key in (key.public, None):
        with pytest.raises(Rejected, match=message) as caught:
            verify_bundle(bundle, given_key, now=NOW)
        assert "\n" not in str(caught.value)


def test_an_unsigned_bundle_is_rejected(bundle: Path) -> None:
    (bundle / CERTIFICATE).unlink()
    with pytest.raises(Rejected, match="never signed"):
        verify_bundle(bundle, None, now=NOW)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"null\n", b"[" * 100_000])
def test_a_damaged_certificate_is_one_line(bundle: Path, content: bytes) -> None:
    (bundle / CERTIFICATE).write_bytes(content)
    with pytest.raises(Rejected, match="cannot be trusted"):
        verify_bundle(bundle, None, now=NOW)
    with pytest.raises(EdgeAIError):
        read_statement(bundle)


def test_what_is_no_directory_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no directory"):
        verify_bundle(tmp_path / "file", None, now=NOW)
    with pytest.raises(UserError, match="does not exist"):
        verify_bundle(tmp_path / "missing", None, now=NOW)
