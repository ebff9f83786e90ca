"""The one definition of an artifact's digest, shared by whoever makes, caches or promotes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def _relative_name(file: Path, root: Path) -> str:
    """Return the POSIX name of ``file`` below ``root``.

    Raises:
        ValueError: where ``file`` is not below ``root``.
    """
    name = file.relative_to(root).as_posix()
    if name == "." or ".." in Path(name).parts:
        raise ValueError(f"{file} is not a file below {root}")
    return name


def digest_files(files: Sequence[Path], root: Path) -> str:
    """Return the hex SHA-256 over the names, sizes and bytes of ``files``.

    For each file, in the order of its POSIX name relative to ``root`` (UTF-8, compared as bytes):
    the length of the name and the name, the size and the bytes; lengths are 8 bytes, big-endian, so
    that no two lists of files share an encoding. Files are streamed; order and duplicates of
    ``files`` do not count.

    Raises:
        ValueError: where a file is not below ``root``.
        OSError: where a file cannot be read.
    """
    named = {_relative_name(f, root).encode("utf-8", "surrogateescape"): f for f in files}
    total = hashlib.sha256()
    for name in sorted(named):
        total.update(len(name).to_bytes(8, "big"))
        total.update(name)
        with named[name].open("rb") as stream:
            # The size is taken from the open file, and what is read is counted, so that a file that
            # grows meanwhile cannot produce the digest of another one.
            stream.seek(0, 2)
            size_bytes = stream.tell()
            stream.seek(0)
            total.update(size_bytes.to_bytes(8, "big"))
            read_bytes = 0
            while block := stream.read(_BLOCK_BYTES):
                read_bytes += len(block)
                total.update(block)
        if read_bytes != size_bytes:
            raise OSError(f"{named[name]} changed while it was read")
    return total.hexdigest()


def digest_file(file: Path) -> str:
    """Return the hex SHA-256 of the bytes of one file, streamed.

    Raises:
        OSError: where it cannot be read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
