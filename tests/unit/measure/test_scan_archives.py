"""Archives that would harm whoever unpacks them, made by hand; nothing large is ever written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from planted_files import SYSTEM, Runs

from pytest_edgeai.measure.scan import _scan_inner
from pytest_edgeai.measure.scan_archives import (
    HARMLESS_BYTES,
    MOST_RATIO,
    Remark,
    escapes,
    is_archive,
    scan_archive,
)

ZEROS = bytes(1 << 20)


def seen(data: bytes) -> list[Remark]:
    assert is_archive(data[:512])
    return list(scan_archive("a", io.BytesIO(data), 1, _scan_inner))


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def bomb_zip() -> bytes:
    """Return a ZIP whose one member unpacks to more than any ratio allows."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w", "w") as member,
    ):
        for _ in range((HARMLESS_BYTES >> 20) + 8):
            member.write(ZEROS)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_ordinary_archives_are_harmless(method: int) -> None:
    rng = np.random.default_rng(0)
    assert seen(zipped({"a/b.txt": b"text", "w.npy": rng.bytes(100_000)}, method)) == []
    arrays = io.BytesIO()
    np.savez_compressed(arrays, zeros=np.zeros((1000, 1000), np.float32), one=np.ones(3))
    assert seen(arrays.getvalue()) == []


def test_a_bomb_is_found_before_it_is_unpacked_whole() -> None:
    [remark] = seen(bomb_zip())
    assert remark.check == "archive"
    assert "bomb" in remark.what
    assert not remark.unread


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"]
)
def test_a_compressed_stream_that_explodes_is_found(pack: Callable[[bytes], bytes]) -> None:
    data = pack(ZEROS * ((HARMLESS_BYTES >> 20) + 8))
    assert len(data) * MOST_RATIO < HARMLESS_BYTES
    [remark] = seen(data)
    assert "bomb" in remark.what


def test_a_member_that_lies_about_its_size_is_found() -> None:
    data = bytearray(zipped({"w": bytes(5000)}))
    at = data.index(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 10)
    [remark] = seen(bytes(data))
    assert remark == Remark("archive", "a!w", "it declares 10 bytes and unpacks to more")


def test_members_that_overlap_are_found() -> None:
    data = bytearray(zipped({"first": bytes(100), "other": bytes(100)}))
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, at + 42, 0)
    [remark] = seen(bytes(data))
    assert "overlap" in remark.what


def test_names_that_escape_are_found() -> None:
    for name in ("../up", "a/../../up", "/etc/x", "C:\\x", "..\\x", "\\\\host\\x"):
        assert escapes(name), name
    assert not any(map(escapes, ("a", "a/b", "a..b", ".hidden")))
    [remark] = seen(zipped({"../../up.txt": b"x"}))
    assert "outside of the archive" in remark.what


def test_what_lies_in_archives_in_archives_is_looked_through() -> None:
    bad = zipped({"data.pkl": pickle.dumps(Runs(os.system, "true"))})
    [remark] = seen(gzip.compress(zipped({"inner.zip": bad})))
    assert (remark.check, remark.where) == ("pickle", "a!!inner.zip!data.pkl")
    assert SYSTEM in remark.what
    for _ in range(3):
        bad = zipped({"deeper.zip": bad})
    assert ["deeper than 3" in remark.what for remark in seen(bad)] == [True]


def tarred(change: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("../out" if change == "name" else "in")
        if change == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        if change == "device":
            member.type = tarfile.CHRTYPE
        content = b"#!/bin/sh\n" if change == "script" else b"text"
        member.size = len(content) if member.isreg() else 0
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [("name", "is named"), ("link", "links to"), ("device", "a device"), ("script", "a script")],
)
def test_members_of_a_tar_that_escape_or_run_are_found(change: str, words: str) -> None:
    [remark] = seen(gzip.compress(tarred(change)))
    assert words in remark.what
    assert seen(tarred("")) == []


def test_what_cannot_be_looked_into_is_said() -> None:
    def told(data: bytes) -> Iterator[str]:
        for remark in seen(data):
            assert remark.unread
            yield remark.what

    assert list(told(b"7z\xbc\xaf\x27\x1c" + bytes(50))) == ["a 7z archive cannot be looked into"]
    assert "cannot be read" in next(told(zipped({"a": b"x" * 500})[:-10]))
    assert "cannot be read" in next(told(b"\x1f\x8b" + b"x" * 100))
    sealed = bytearray(zipped({"a": b"x"}))
    sealed[sealed.index(b"PK\1\2") + 8] |= 1
    assert list(told(bytes(sealed))) == ["the member is encrypted"]
    assert "method 14" in next(told(zipped({"a": b"x" * 100}, zipfile.ZIP_LZMA)))
