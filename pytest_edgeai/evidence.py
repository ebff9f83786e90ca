"""The evidence directory of one run: raw samples and facts, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.files import write_atomically
from pytest_edgeai.records import JSON, to_json


class EvidenceStore:
    """Files below one directory; processes of one run share what the others measured."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, which need not exist yet."""
        self.directory = directory

    def write_record(self, name: str, record: Any) -> None:
        """Write a record as ``NAME.json``."""
        text = json.dumps(to_json(record), indent=1, sort_keys=True, allow_nan=False)
        write_atomically(self.directory / f"{name}.json", text + "\n")

    def read_record(self, name: str) -> JSON | None:
        """Return the JSON of ``NAME.json``; ``None`` where there is none."""
        try:
            return json.loads((self.directory / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays as ``NAME.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomically(self.directory / f"{name}.npz", buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays of ``NAME.npz``; ``None`` where there is none."""
        try:
            with np.load(self.directory / f"{name}.npz", allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except FileNotFoundError:
            return None

    def digest(self) -> str:
        """Return the hex SHA-256 over the names and bytes of all files, in order of name."""
        digest = hashlib.sha256()
        for path in sorted(self.directory.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                digest.update(path.relative_to(self.directory).as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
