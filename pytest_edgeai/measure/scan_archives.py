"""Archives among the files of a model: bombs, names that escape, and what they hold.

ZIP members are unpacked from their raw bytes and counted, because the size that a header declares
is the attacker's word and :mod:`zipfile` stops reading where it ends. Layout: APPNOTE.TXT of
PKWARE, sections 4.3.7 and 4.4.5. Overlapping members: Fifield, "A better zip bomb" (WOOT 2019).
"""

from __future__ import annotations

import bz2
import lzma
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Protocol

MOST_RATIO = 200
"""Weights shrink to a tenth at best, and text to a hundredth; deflate can reach 1,032."""
HARMLESS_BYTES = 1 << 26
"""What may unpack at any ratio: arrays of zeros are ordinary."""
MOST_BYTES = 1 << 34
DEEPEST = 3
MOST_MEMBERS = 100_000
_BLOCK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 1 << 25
_LOCAL_HEADER_BYTES = 30
_STREAMS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_SEALED: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard stream"),
    (b"\x04\x22\x4d\x18", "an LZ4 stream"),
)

Inner = Callable[[str, IO[bytes], int], Iterator["Remark"]]
"""Scans what an archive holds, given its name, its bytes and its depth."""


@dataclass(frozen=True)
class Remark:
    """What was seen in one file.

    Attributes:
        check: what looked for it.
        where: the file, a member of an archive after ``!``.
        what: a sentence without its full stop.
        unread: whether it could not be looked into; nothing is known against it then.
    """

    check: str
    where: str
    what: str
    unread: bool = False


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Bomb(Exception):
    pass


def is_archive(start: bytes) -> bool:
    """Return whether a file is an archive or a compressed stream, by its first bytes."""
    magics = (b"PK\x03\x04", b"PK\x05\x06", *(magic for magic, _ in (*_STREAMS, *_SEALED)))
    return start.startswith(magics) or start[257:262] == b"ustar"


def holds_zip(stream: IO[bytes]) -> bool:
    """Return whether a ZIP archive with members ends a file of another format."""
    try:
        with zipfile.ZipFile(stream) as archive:
            return bool(archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False


def scan_archive(name: str, stream: IO[bytes], depth: int, scan_inner: Inner) -> Iterator[Remark]:
    """Yield what is wrong with an archive, and with what it holds.

    Args:
        name: how the archive is called.
        stream: its bytes, seekable, at the start.
        depth: 1 for a file of the model, 2 for what lies in one, and so on.
        scan_inner: scans what it holds.
    """
    start = stream.read(512)
    stream.seek(0)
    if depth > DEEPEST:
        yield Remark("archive", name, f"archives lie in each other deeper than {DEEPEST}")
        return
    for magic, kind in _SEALED:
        if start.startswith(magic):
            yield Remark("archive", name, f"{kind} cannot be looked into", unread=True)
            return
    try:
        for magic, kind in _STREAMS:
            if start.startswith(magic):
                yield from _scan_stream(name, stream, kind, depth, scan_inner)
                return
        if start[257:262] == b"ustar":
            yield from _scan_tar(name, stream, depth, scan_inner)
        else:
            yield from _scan_zip(name, stream, depth, scan_inner)
    except _Bomb as error:
        yield Remark("archive", name, f"it unpacks like a bomb: {error}")
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        ValueError,
        struct.error,
        OSError,
        NotImplementedError,
    ) as error:
        yield Remark("archive", name, f"the archive cannot be read ({error})", unread=True)


def _scan_zip(name: str, stream: IO[bytes], depth: int, scan_inner: Inner) -> Iterator[Remark]:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        yield Remark("archive", name, f"it has {len(members)} members, {MOST_MEMBERS} allowed")
        return
    reached = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < reached:
            yield Remark("archive", name, "its members overlap, as those of a bomb do")
            return
        reached = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size
    total = 0
    for member in members:
        place = f"{name}!{member.filename[:200]}"
        yield from _escape(place, member.filename)
        if member.is_dir():
            continue
        if member.flag_bits & 1:
            yield Remark("archive", place, "the member is encrypted", unread=True)
            continue
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as unpacked:
            held = _unpack_member(stream, member, unpacked)
            total += held
            if held > member.file_size:
                yield Remark(
                    "archive",
                    place,
                    f"it declares {member.file_size} bytes and unpacks to more",
                )
                continue
            _check_growth(total, sum(each.compress_size for each in members))
            unpacked.seek(0)
            yield from scan_inner(place, unpacked, depth + 1)


def _unpack_member(stream: IO[bytes], member: zipfile.ZipInfo, target: IO[bytes]) -> int:
    """Unpack one member from its raw bytes; return how many came before it was stopped."""
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL_HEADER_BYTES)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("a member has no header of its own")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    stream.seek(name_bytes + extra_bytes, 1)
    if member.compress_type == zipfile.ZIP_STORED:
        if member.compress_size != member.file_size:
            raise zipfile.BadZipFile("a stored member declares two sizes")
        return _copy(_raw(stream, member.compress_size), target)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        unpacker: _Decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    elif member.compress_type == zipfile.ZIP_BZIP2:
        unpacker = bz2.BZ2Decompressor()
    else:
        raise NotImplementedError(f"compression method {member.compress_type} is not looked into")
    blocks = _unpack(unpacker, _raw(stream, member.compress_size))
    return _copy(blocks, target, most=member.file_size)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _raw(stream: IO[bytes], count: int) -> Iterator[bytes]:
    while count > 0 and (block := stream.read(min(_BLOCK_BYTES, count))):
        count -= len(block)
        yield block


def _unpack(unpacker: _Decompressor, raw: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what a stream unpacks to, a block at a time, and stop where it becomes a bomb."""
    taken = given = 0
    for block in raw:
        taken += len(block)
        pending = block
        while not getattr(unpacker, "eof", False):
            out = unpacker.decompress(pending, _BLOCK_BYTES)
            pending = getattr(unpacker, "unconsumed_tail", b"")
            given += len(out)
            _check_growth(given, taken)
            if out:
                yield out
            if not pending and (not out or getattr(unpacker, "needs_input", True)):
                break


def _check_growth(given: int, taken: int) -> None:
    if given > MOST_BYTES:
        raise _Bomb(f"more than {MOST_BYTES >> 30} GiB come out")
    if given > HARMLESS_BYTES and given > MOST_RATIO * taken:
        raise _Bomb(f"{taken} bytes unpack to {given} and more")


def _copy(blocks: Iterator[bytes], target: IO[bytes], *, most: int | None = None) -> int:
    count = 0
    for block in blocks:
        count += len(block)
        target.write(block)
        if most is not None and count > most:
            break
    return count


def _scan_stream(
    name: str, stream: IO[bytes], kind: str, depth: int, scan_inner: Inner
) -> Iterator[Remark]:
    unpacker: _Decompressor
    if kind == "gzip":
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    elif kind == "bzip2":
        unpacker = bz2.BZ2Decompressor()
    else:
        unpacker = lzma.LZMADecompressor()
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as unpacked:
        _copy(_unpack(unpacker, _blocks(stream)), unpacked)
        unpacked.seek(0)
        yield from scan_inner(f"{name}!", unpacked, depth + 1)


def _scan_tar(name: str, stream: IO[bytes], depth: int, scan_inner: Inner) -> Iterator[Remark]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for number, member in enumerate(archive):
            place = f"{name}!{member.name[:200]}"
            if number > MOST_MEMBERS:
                yield Remark("archive", name, f"it has more than {MOST_MEMBERS} members")
                return
            yield from _escape(place, member.name)
            if member.issym() or member.islnk():
                yield from _escape(place, member.linkname, "links to")
            elif not (member.isreg() or member.isdir()):
                yield Remark("archive", place, "the member is a device or a pipe")
            held = archive.extractfile(member) if member.isreg() else None
            if held is not None:
                with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as unpacked:
                    _copy(_blocks(held), unpacked)
                    unpacked.seek(0)
                    yield from scan_inner(place, unpacked, depth + 1)


def _escape(place: str, name: str, verb: str = "is named") -> Iterator[Remark]:
    if escapes(name):
        yield Remark("archive", place, f'the member {verb} "{name[:80]}", outside of the archive')


def escapes(name: str) -> bool:
    """Return whether a relative name leads out of its folder, on POSIX or on Windows."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return bool(
        posix.is_absolute()
        or windows.drive
        or windows.root
        or ".." in posix.parts
        or ".." in windows.parts
    )


def leads_elsewhere(link: Path, folder: Path) -> bool:
    """Return whether a link leads out of a folder, or nowhere."""
    try:
        return not link.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return True
