"""Language models for the benchmarks: made, quantized by llama.cpp, and loaded in workers."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.common import LIMIT_S, ONE_THREAD, ROOT
from pytest_edgeai.measure.bench import Runnable
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.records import Recipe
from pytest_edgeai.worker.host import Worker, WorkerSpec

SHIPPED = ROOT / "examples" / "tiny-llama"
BLOCK_TOKENS = 256
PROMPT_TOKENS = 128
VOCABULARY = 5000
WIDTHS: Mapping[str, int] = {"2M": 256, "14M": 384, "27M": 512, "103M": 1024, "206M": 1024}
"""Width of the residual stream of each random model, by approximate number of parameters."""

Side = Literal["baseline", "candidate"]


@dataclass(frozen=True)
class TextSubject:
    """A language model, its candidate in four bits, and the text that both read.

    Attributes:
        name: what tables call it.
        files: GGUF file of each side.
        plan: the staged text.
    """

    name: str
    files: Mapping[Side, Path]
    plan: LanguagePlan

    def load(self, side: Side) -> LoadedLanguageRunnable:
        """Load one side in a new worker."""
        return load(self.files[side], self.plan)


def load(path: Path, plan: LanguagePlan) -> LoadedLanguageRunnable:
    """Load a GGUF file in a new worker, with one thread."""
    runnable = Runnable(FRAMEWORKS["llamacpp"], Path(sys.executable), path, ONE_THREAD)
    return LoadedLanguageRunnable(runnable, None, plan, time_limit_s=LIMIT_S)


def optimize(source: Path, scheme: str, output: Path) -> Path:
    """Let llama.cpp make an artifact of a model, by a scheme of the framework ``llamacpp``."""
    with Worker.start(
        WorkerSpec(FRAMEWORKS["llamacpp"], Path(sys.executable)), time_limit_s=LIMIT_S
    ) as worker:
        answer = worker.request(
            "optimize",
            time_limit_s=LIMIT_S,
            source=str(source),
            recipe=Recipe("llamacpp", scheme),
            architecture="transformer",
            inputs=(),
            calibration=None,
            output=str(output),
        )
    return Path(answer["path"])


def random_model(size: str, folder: Path, dtype: str = "float32") -> Path:
    """Write a random Llama of about ``size`` (``27M``) parameters as a GGUF file.

    Raises:
        SystemExit: no size.
    """
    from language_models import write_gguf

    if not re.fullmatch(r"\d+M", size):
        raise SystemExit(f"{size}: no size such as 27M")
    hidden = WIDTHS.get(size, 512)
    return write_gguf(
        folder / f"{size}-{dtype}.gguf",
        parameters=int(size[:-1]) * 1_000_000,
        hidden=hidden,
        vocabulary=vocabulary_of(size),
        dtype=dtype,
    )


def vocabulary_of(size: str) -> int:
    """Return the vocabulary of a random model; large tables would be the whole of the smallest."""
    return VOCABULARY if WIDTHS.get(size, 512) > 256 else 1000


def random_text(folder: Path, vocabulary: int, blocks: int = 1) -> LanguagePlan:
    """Stage random token ids."""
    ids = np.random.default_rng(0).integers(0, vocabulary, (blocks, BLOCK_TOKENS), dtype=np.int32)
    return _staged(ids, folder / f"random-{vocabulary}.npy")


def make_text_subject(name: str, folder: Path, *, blocks: int) -> TextSubject:
    """Return the shipped model (``tiny-llama``) or a random one (``27M``), ready to be run.

    Args:
        name: which.
        folder: where files go.
        blocks: how many blocks of text, at most.
    """
    if name == SHIPPED.name:
        baseline = optimize(SHIPPED / "model", "convert", folder / f"{name}-converted")
        with np.load(SHIPPED / "heldout.npz") as archive:
            plan = _staged(archive["input_ids"][:blocks], folder / f"{name}.npy")
    else:
        baseline = random_model(name, folder)
        plan = random_text(folder, vocabulary_of(name), blocks)
    candidate = optimize(baseline, "q4_k_m", folder / f"{name}-q4_k_m")
    return TextSubject(name, {"baseline": baseline, "candidate": candidate}, plan)


def _staged(ids: np.ndarray, path: Path) -> LanguagePlan:
    np.save(path, ids)
    return LanguagePlan(str(path), len(ids), ids.shape[1], PROMPT_TOKENS)
