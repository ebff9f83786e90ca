"""One of several processes that want the same artifact at once.

It stands here because a spawned process finds it on the import path that it inherits; a test module
has no name by which another process could import it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pytest_edgeai.optimize.cache import ArtifactCache
from pytest_edgeai.records import Recipe


def make_slowly(directory: str, key: str, barrier: threading.Barrier, number: int) -> None:
    """Wait for the others, ask for the artifact, and write down whether it was made here."""
    barrier.wait()

    def make(output: Path) -> tuple[Path, tuple[str, ...]]:
        (output / "model.onnx").write_bytes(b"first half, ")
        time.sleep(0.2)
        with (output / "model.onnx").open("ab") as file:
            file.write(b"second half")
        with (Path(directory) / "made").open("a") as file:
            file.write(f"{number}\n")
        return output / "model.onnx", ()

    cache = ArtifactCache(Path(directory) / "cache", run_id=str(number), refresh=False)
    recipe = Recipe("onnxruntime", "int8-static")
    artifact = cache.get_or_make(key, recipe, "int8", {"onnxruntime": "1"}, make)
    assert artifact.path.read_bytes() == b"first half, second half"
