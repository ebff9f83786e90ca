"""Artifacts under a content address: made once, written whole, shared safely between processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_edgeai.digests import digest_files
from pytest_edgeai.files import cannot_write, write_atomically
from pytest_edgeai.records import JSON, Artifact, Recipe, artifact_root, to_json

STALE_AFTER_S = 7 * 24 * 3600.0
"""A replaced artifact is kept this long, because another process may still be loading it."""

_FIELDS = frozenset(
    {
        "directory",
        "path",
        "files",
        "run_id",
        "framework",
        "claimed_precision",
        "sha256",
        "size_bytes",
        "seconds",
        "versions",
        "log",
    }
)

MakeArtifact = Callable[[Path], tuple[Path, tuple[str, ...]]]
"""Fills an empty directory; returns the file to load and the framework's log."""


def artifact_key(
    model_sha256: str,
    recipe: Recipe,
    calibration_sha256: str,
    versions: Mapping[str, str],
    architecture: str,
    implementation: str,
) -> str:
    """Return the content address: hex SHA-256 over everything that an artifact depends on.

    Args:
        model_sha256: digest of the baseline's files.
        recipe: how it is made; its reason and label do not count.
        calibration_sha256: digest of the calibration arrays; empty for none.
        versions: tool name to version, the interpreter included.
        architecture: class of the model, which default options depend on.
        implementation: import path of the framework's class.
    """
    parts = {
        "model": model_sha256,
        "framework": recipe.framework,
        "scheme": recipe.scheme,
        "options": to_json(recipe.options),
        "calibration": calibration_sha256,
        "versions": dict(versions),
        "architecture": architecture,
        "implementation": implementation,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ArtifactCache:
    """The cache below one directory."""

    def __init__(self, directory: Path, *, run_id: str, refresh: bool) -> None:
        """Use ``directory``.

        Args:
            directory: created where it does not exist.
            run_id: names this session; processes of one session share what they rebuilt.
            refresh: make every artifact anew, once per session.
        """
        self.directory = directory
        self._run_id = run_id
        self._refresh = refresh

    def get_or_make(
        self,
        key: str,
        recipe: Recipe,
        claimed_precision: str,
        versions: Mapping[str, str],
        make: MakeArtifact,
    ) -> Artifact:
        """Return the artifact of ``key``, making it where it is absent, damaged or to be refreshed.

        Raises:
            UserError: the cache cannot be written.
            EdgeAIError: whatever ``make`` raises; nothing is left behind then.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / f"{key}.lock")
            with lock:
                found = self._read(key)
                if found is not None:
                    return found
                return self._make(key, recipe, claimed_precision, versions, make)
        except OSError as error:
            raise cannot_write(self.directory, error) from None

    def paths_of(self, sha256: str) -> list[Path]:
        """Return what is loaded of each artifact that is kept with a digest; nothing is verified.

        Args:
            sha256: digest of the artifact.
        """
        entries = (self._entry(file.stem) for file in sorted(self.directory.glob("*.json")))
        return [
            self.directory / entry["directory"] / entry["path"]
            for entry in entries
            if entry is not None and entry["sha256"] == sha256
        ]

    def _read(self, key: str) -> Artifact | None:
        entry = self._entry(key)
        if entry is None or (self._refresh and entry["run_id"] != self._run_id):
            return None
        root = self.directory / entry["directory"]
        files = tuple(root / name for name in entry["files"])
        try:
            intact = digest_files(files, artifact_root(root / entry["path"])) == entry["sha256"]
        except OSError:
            intact = False
        if not intact:
            return None
        return Artifact(
            path=root / entry["path"],
            files=files,
            framework=entry["framework"],
            claimed_precision=entry["claimed_precision"],
            sha256=entry["sha256"],
            size_bytes=entry["size_bytes"],
            key=key,
            from_cache=entry["run_id"] != self._run_id,
            seconds=entry["seconds"],
            versions=entry["versions"],
            log=tuple(entry["log"]),
        )

    def _entry(self, key: str) -> dict[str, Any] | None:
        try:
            entry: JSON = json.loads((self.directory / f"{key}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("format") != 1 or not entry.keys() >= _FIELDS:
            return None
        return entry

    def _make(
        self,
        key: str,
        recipe: Recipe,
        claimed_precision: str,
        versions: Mapping[str, str],
        make: MakeArtifact,
    ) -> Artifact:
        self._sweep(key)
        name = f"{key}.{uuid.uuid4().hex[:8]}"
        partial = self.directory / f"{name}.partial"
        partial.mkdir()
        started = time.monotonic()
        try:
            path, log = make(partial)
            seconds = time.monotonic() - started
            names = sorted(
                file.relative_to(partial).as_posix()
                for file in partial.rglob("*")
                if file.is_file()
            )
            loadable = path.relative_to(partial).as_posix()
            for file in names:
                _sync(partial / file)
            final = self.directory / name
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        files = tuple(final / file for file in names)
        artifact = Artifact(
            path=final / loadable,
            files=files,
            framework=recipe.framework,
            claimed_precision=claimed_precision,
            sha256=digest_files(files, artifact_root(final / loadable)),
            size_bytes=sum(file.stat().st_size for file in files),
            key=key,
            from_cache=False,
            seconds=seconds,
            versions=versions,
            log=log,
        )
        entry = {
            "format": 1,
            "directory": name,
            "path": loadable,
            "files": names,
            "run_id": self._run_id,
            "recipe": to_json(recipe),
            **{
                field: getattr(artifact, field)
                for field in ("framework", "claimed_precision", "sha256", "size_bytes", "seconds")
            },
            "versions": dict(versions),
            "log": list(log),
        }
        try:
            write_atomically(
                self.directory / f"{key}.json", json.dumps(entry, indent=1, sort_keys=True) + "\n"
            )
        except BaseException:
            shutil.rmtree(final, ignore_errors=True)
            raise
        return artifact

    def _sweep(self, key: str) -> None:
        """Remove what killed sessions left of this key, and what was replaced long ago."""
        entry = self._entry(key)
        current = entry["directory"] if entry else ""
        for path in self.directory.glob(f"{key}.*"):
            if not path.is_dir() or path.name == current:
                continue
            if path.suffix == ".partial" or time.time() - path.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
