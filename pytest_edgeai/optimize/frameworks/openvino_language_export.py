"""Language models of any family that optimum-intel exports, where it is installed.

The export runs in a process of its own (:mod:`.openvino_language_exporter`), offline, without code
of the model's and without compression. Its graph is taken if OpenVINO computes with it what
transformers computes, in one pass and through the cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks import openvino_language_exporter
from pytest_edgeai.optimize.frameworks.checkpoint import Checkpoint
from pytest_edgeai.optimize.frameworks.openvino_language import load
from pytest_edgeai.optimize.frameworks.openvino_language_exporter import LOGITS, REFUSAL
from pytest_edgeai.optimize.frameworks.openvino_language_source import (
    ARTIFACT,
    HOW_TO_EXPORT,
    companions_of,
    longest_sequence,
)
from pytest_edgeai.optimize.frameworks.support import Report
from pytest_edgeai.records import RuntimeOptions

DISTRIBUTIONS = ("optimum-intel", "transformers", "torch")
"""What the export needs beside OpenVINO and NNCF."""

MOST_DEVIATION = 1e-3
"""Largest relative deviation of the logits from those of transformers, both in float32; about 1e-6
where a graph computes the same."""

_COMPARED_TOKENS = 48
_MOST_WORDS = 400
# Neither the hub nor a collector of usage data is asked for anything.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # By another way of tracing the graph has no cache.
    "OPENVINO_DYNAMO_EXPORT": "false",
}


def missing() -> tuple[str, ...]:
    """Return which of :data:`DISTRIBUTIONS` this interpreter lacks."""
    found = _versions()
    return tuple(name for name in DISTRIBUTIONS if name not in found)


def export_graph(
    core: openvino.Core, checkpoint: Checkpoint, output: Path, report: Report
) -> openvino.Model:
    """Export a Hugging Face directory in float32; nothing is left in ``output``.

    Raises:
        ModelError: a package is missing; the model's weights are quantized already; optimum-intel
            or transformers refuses the model; OpenVINO computes something else with the graph.
    """
    _check(checkpoint)
    with tempfile.TemporaryDirectory(prefix="export-", dir=output) as name:
        folder = Path(name)
        tokens = _tokens(checkpoint)
        _run(checkpoint, tokens, folder)
        for file in companions_of(checkpoint):
            (folder / file.name).write_bytes(file.read_bytes())
        found = deviation(core, folder, tokens)
        if not found <= MOST_DEVIATION:
            raise ModelError(
                f"the logits of the exported graph deviate from those of transformers by "
                f"{found:.1g} of their size",
                where=str(checkpoint.path),
                allowed=f"at most {MOST_DEVIATION:g}",
                advice="optimum-intel and transformers do not fit together for this family: "
                "install other versions of them",
            )
        versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
        report.add(f"exported with {versions}; logits deviate by {found:.0e} of their size")
        # Read, not mapped: the file goes.
        return core.read_model(folder / ARTIFACT, config={"ENABLE_MMAP": False})


def deviation(core: openvino.Core, folder: Path, tokens: NDArray[np.int32]) -> float:
    """Return how far a graph is from the logits beside it, in one pass and through the cache.

    Args:
        core: the runtime.
        folder: holds ``openvino_model.xml``, ``config.json`` and :data:`LOGITS`.
        tokens: int32 ids of shape ``(tokens,)`` that the logits were computed for.

    Returns:
        the norm of the difference over that of the logits, the larger of both ways; infinite where
        the shapes differ, not a number where the logits are.

    Raises:
        ModelError: as :func:`pytest_edgeai.optimize.frameworks.openvino_language.load`.
    """
    expected = np.load(folder / LOGITS)
    model = load(core, folder, RuntimeOptions(), len(tokens))
    decode = model.bind_decode(tokens)
    decode()
    last = np.asarray(decode())  # beside the token of the call before, which is to be hidden
    at_once = _relative(model.logits(tokens), expected)
    model.close()
    return float(np.maximum(at_once, _relative(last, expected[-1])))


def _versions() -> Mapping[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _check(checkpoint: Checkpoint) -> None:
    where = str(checkpoint.config.path)
    lacking = missing()
    if lacking:
        raise ModelError(
            f"exporting needs {', '.join(lacking)}, and {sys.executable} lacks it",
            where=where,
            advice=HOW_TO_EXPORT,
        )
    if checkpoint.structure.quantization:
        raise ModelError(
            f"the weights are quantized already ({checkpoint.structure.quantization})",
            where=where,
            allowed="float32, float16 or bfloat16 weights",
            advice="Name the model that they were quantized from",
        )
    if len(checkpoint.config.classes) != 1:
        raise ModelError(
            f"architectures names {len(checkpoint.config.classes)} classes",
            where=where,
            allowed="one class",
        )


def _tokens(checkpoint: Checkpoint) -> NDArray[np.int32]:
    """Return ids to compare logits with: always the same, of all the vocabulary."""
    language = checkpoint.structure.language
    vocabulary = language.vocabulary if language is not None else None
    if vocabulary is None:
        raise ModelError("vocab_size is missing", where=str(checkpoint.config.path))
    count = min(_COMPARED_TOKENS, longest_sequence(checkpoint.config))
    return np.random.default_rng(0).integers(0, vocabulary, count, np.int32)


def _run(checkpoint: Checkpoint, tokens: NDArray[np.int32], folder: Path) -> None:
    request = {
        "path": [str(Path(entry).absolute()) for entry in sys.path if entry],
        "source": str(checkpoint.path.resolve()),
        "output": str(folder.resolve()),
        "tokens": tokens.tolist(),
        "class": checkpoint.config.classes[0],
    }
    # -P: beside the script lie modules that are called like the packages that it imports.
    words = [sys.executable, "-P", openvino_language_exporter.__file__, json.dumps(request)]
    ended = subprocess.run(
        words,
        env={**os.environ, **_ENVIRONMENT, "HF_HOME": str(folder / "hub")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    refusal = folder / REFUSAL
    if ended.returncode == 0 and (folder / ARTIFACT).is_file():
        return
    if refusal.is_file():
        said = refusal.read_text(encoding="utf-8")
    else:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        said = f"exit code {ended.returncode}" + (f", {lines[-1].strip()}" if lines else "")
    raise ModelError(
        f"optimum-intel cannot export {checkpoint.config.classes[0]}: {said[:_MOST_WORDS]}",
        where=str(checkpoint.path),
    )


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
