"""Copies of an artifact that are not what they were; the artifact itself is never touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_edgeai.digests import digest_files
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import Artifact, artifact_root

FLIPS = 16
FLIPPED_BYTES = 64
TRUNCATED, EMPTIED, FLIPPED = "cut in half", "emptied", "with flipped bytes"


def corrupt_copy(artifact: Artifact, how: str, folder: Path) -> Path:
    """Copy an artifact with its largest file spoiled; return what is loaded of the copy.

    Args:
        artifact: the artifact.
        how: :data:`TRUNCATED`, as an interrupted transfer leaves it; :data:`EMPTIED`, as a disk
            that is full does; :data:`FLIPPED`, :data:`FLIPS` places whose bytes are inverted.
        folder: for the copy; it must not exist.

    Raises:
        MeasurementError: there is no room for the copy.
    """
    root = artifact_root(artifact.path)
    spoiled = max(artifact.files, key=lambda file: file.stat().st_size)
    free_bytes = shutil.disk_usage(folder.parent).free
    if free_bytes < 2 * artifact.size_bytes:
        raise MeasurementError(
            f"a copy of {artifact.size_bytes:,} bytes needs twice as many free in {folder.parent}"
        )
    for file in artifact.files:
        copy = folder / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file != spoiled:
            shutil.copyfile(file, copy)
        else:
            _spoil(file, copy, how)
    return folder if artifact.path == root else folder / artifact.path.relative_to(root)


def is_intact(artifact: Artifact, path: Path) -> bool:
    """Return whether what lies at ``path`` has the artifact's digest.

    That is what a deployment has to ask before it loads a file: no runtime notices that a weight
    has changed.
    """
    root, copied = artifact_root(artifact.path), artifact_root(path)
    files = [copied / file.relative_to(root) for file in artifact.files]
    return all(file.is_file() for file in files) and (
        digest_files(files, copied) == artifact.sha256
    )


def _spoil(file: Path, copy: Path, how: str) -> None:
    size = file.stat().st_size
    kept = {TRUNCATED: size // 2, EMPTIED: 0, FLIPPED: size}[how]
    with file.open("rb") as source, copy.open("wb") as target:
        left = kept
        while left and (block := source.read(min(left, 2**20))):
            target.write(block)
            left -= len(block)
    if how != FLIPPED:
        return
    with copy.open("r+b") as target:
        for index in range(FLIPS):
            target.seek(size * (2 * index + 1) // (2 * FLIPS))
            block = target.read(FLIPPED_BYTES)
            target.seek(-len(block), os.SEEK_CUR)
            target.write(bytes(byte ^ 0xFF for byte in block))
