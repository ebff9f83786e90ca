"""Open a bundle for serving: nothing is loaded that is not what was promoted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .runtimes import LOADERS

_BLOCK_BYTES = 1 << 20


class Refused(Exception):
    """A bundle that is not served: one line says why."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose artifact is what was promoted.

    Attributes:
        name: the model's name.
        version: the first 12 digits of the artifact's SHA-256.
        framework: what runs it.
        path: what is loaded.
        threads: threads that it was measured with; 0: the runtime's own number.
        device: the device that it was measured on.
        hints: hints of the runtime that it was measured with.
    """

    name: str
    version: str
    framework: str
    path: Path
    threads: int
    device: str
    hints: Mapping[str, str] = field(default_factory=dict)


def open_bundle(directory: Path) -> Bundle:
    """Read ``bundle.json`` and hash every file of the artifact.

    Raises:
        Refused: it is no bundle, or a file is not what was promoted.
    """
    try:
        content = json.loads((directory / "bundle.json").read_bytes())
        files = {str(name): str(fact["sha256"]) for name, fact in content["files"].items()}
        artifact = content["artifact"]
        runtime = _measured_runtime(directory)
        found = Bundle(
            name=str(content["model"]["name"]),
            version=str(artifact["sha256"])[:12],
            framework=str(artifact["framework"]),
            path=directory / "artifact" / str(artifact["main"]),
            threads=int(runtime.get("threads", 0)),
            device=str(runtime.get("device", "CPU")),
            hints={str(k): str(v) for k, v in (runtime.get("hints") or {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{directory / 'bundle.json'} cannot be read: {error}") from None
    for name, expected in files.items():
        path = directory / "artifact" / name
        try:
            actual = _digest(path)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror or error}") from None
        if actual != expected:
            raise Refused(f"{path} is not what was promoted: its SHA-256 is {actual[:12]}")
    if found.framework not in LOADERS:
        allowed = ", ".join(LOADERS)
        raise Refused(f"this server runs {allowed}; the artifact is of {found.framework}")
    return found


def _measured_runtime(directory: Path) -> dict[str, Any]:
    """Return how the artifact was run when it was measured; nothing where that is not stated."""
    path = directory / "deployment.json"
    content = json.loads(path.read_bytes()) if path.exists() else {}
    return dict(content.get("framework", {}).get("runtime") or {})


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            total.update(block)
    return total.hexdigest()
