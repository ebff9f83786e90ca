"""Both models on the same corrupted samples, and how far the baseline is from guessing there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.corruption import SEED, Corruption
from pytest_edgeai.measure.dataset import Batching, stage_arrays
from pytest_edgeai.measure.embedding import DEFAULT_NEIGHBORS
from pytest_edgeai.measure.quality import (
    compared_quality,
    encode_labels,
    score,
    select_outputs,
)
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import PairedQuality
from pytest_edgeai.samples import QualityKind

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Progress: TypeAlias = Callable[[float], None]

PART_BYTES = 64 * 2**20
"""Bytes of samples that are corrupted at once."""
PILOT_SAMPLES = 32
FEWEST_SAMPLES = 300
"""Samples that are taken whatever they cost, by default: fewer decide about few models."""
STEP_SAMPLES = 100
PERMUTATIONS = 5
"""Permutations of the labels that say what guessing would score."""
CORPUS_PERMUTATIONS = 3


@dataclass(frozen=True, eq=False)
class Judged:
    """How the outputs of a model are scored.

    Attributes:
        metric: the metric.
        name: its name.
        kind: what it returns.
        labels: of all samples; ``None`` for an embedding without groups.
        classes: names of the output's columns, where somebody states them.
        output: the output that the metric reads; ``None`` for the only one that fits.
        neighbors: k of an embedding's recall@k.
    """

    metric: Callable[..., Any]
    name: str
    kind: QualityKind
    labels: Array | None
    classes: tuple[str, ...] | None
    output: str | None
    neighbors: int = DEFAULT_NEIGHBORS


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Samples that are run by models, in parts.

    Attributes:
        arrays: model input name to all samples.
        indices: which of them, in order.
        batching: how they become calls.
        folder: for parts on their way; removed after each.
    """

    arrays: Arrays
    indices: NDArray[np.int64]
    batching: Batching
    folder: Path

    def parts(self) -> list[NDArray[np.int64]]:
        """Return the indices of each part: whole calls, of `PART_BYTES` at most."""
        size = sum(array[:1].nbytes for array in self.arrays.values())
        step = self.batching.samples_per_call
        length = max(1, int(PART_BYTES / max(1, size)) // step) * step
        return [self.indices[i : i + length] for i in range(0, len(self.indices), length)]

    def outputs(
        self,
        models: tuple[LoadedRunnable, ...],
        corruption: Corruption | None,
        severity: int,
        progress: Progress,
    ) -> list[dict[str, Array]]:
        """Return the outputs of each model on the samples, corrupted by the same hand.

        Raises:
            EdgeAIError: a model could not be run, or the corruption does not fit.
        """
        found: list[list[dict[str, Array]]] = [[] for _ in models]
        parts = self.parts()
        for number, part in enumerate(parts):
            progress(number / len(parts))
            chosen = {name: array[part] for name, array in self.arrays.items()}
            if corruption is not None:
                chosen = corruption.apply(chosen, part, severity)
            place = self.folder / "part"
            try:
                staged = Samples(stage_arrays(chosen, place), len(part), self.batching)
                for side, model in enumerate(models):
                    outputs, _ = model.evaluate(
                        place / f"outputs-{side}", lambda what, done: None, staged
                    )
                    found[side].append({name: np.array(held) for name, held in outputs.items()})
            finally:
                shutil.rmtree(place, ignore_errors=True)
        return [_joined(side) for side in found]


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    for part in parts[1:]:
        for name, array in part.items():
            if name not in parts[0] or array.shape[1:] != parts[0][name].shape[1:]:
                raise ModelError(
                    f'output "{name}" changes its shape from part to part',
                    advice="Outputs must have one shape for all samples",
                )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sample_order(samples: int) -> NDArray[np.int64]:
    """Return the numbers of all samples in an order that is always the same one."""
    return np.random.default_rng(SEED).permutation(samples).astype(np.int64)


def affordable(
    total: int,
    seconds_per_sample: float,
    corruptions: int,
    budget_s: float | None,
    fewest: int = FEWEST_SAMPLES,
) -> int:
    """Return how many samples are taken: by what they cost, and never by what they say.

    Args:
        total: samples that there are.
        seconds_per_sample: what one costs under one corruption, both models together.
        corruptions: number of corruptions.
        budget_s: time for all of them; ``None`` for all samples.
        fewest: samples that are taken whatever they cost.
    """
    if budget_s is None:
        return total
    within = budget_s / max(1e-9, seconds_per_sample * max(1, corruptions))
    rounded = int(within) // STEP_SAMPLES * STEP_SAMPLES
    return min(total, max(fewest, rounded))


def pilot_seconds(
    evaluated: Evaluated,
    models: tuple[LoadedRunnable, ...],
    corruptions: tuple[Corruption, ...],
    severity: int,
) -> float:
    """Return the seconds that a sample costs under one corruption, both models together."""
    begin = time.perf_counter()
    for corruption in corruptions:
        evaluated.outputs(models, corruption, severity, lambda done: None)
    seconds = time.perf_counter() - begin
    return seconds / max(1, len(corruptions) * len(evaluated.indices))


def corrupted_quality(
    corruption: Corruption,
    severity: int,
    evaluated: Evaluated,
    models: tuple[LoadedRunnable, LoadedRunnable],
    clean: Arrays,
    judged: Judged,
    progress: Progress,
) -> CorruptedQuality:
    """Compare both models under one corruption.

    Args:
        corruption: what is done to the samples.
        severity: 1 to 5.
        evaluated: the samples.
        models: baseline and candidate.
        clean: the baseline's outputs on the same samples as they are.
        judged: how outputs are scored.
        progress: told the share that is done.

    Raises:
        EdgeAIError: a model could not be run, or the metric does not fit.
    """
    outputs = [
        dict(select_outputs(side, judged.output))
        for side in evaluated.outputs(models, corruption, severity, progress)
    ]
    clean = select_outputs(clean, judged.output)
    labels = _labels(judged, evaluated.indices, clean)
    if labels is None and judged.kind != "embedding":
        raise ModelError(f'metric "{judged.name}" needs labels', allowed="one label per sample")
    quality = compared_quality(
        judged.metric,
        judged.name,
        judged.kind,
        outputs[0],
        outputs[1],
        labels,
        neighbors=judged.neighbors,
    )
    return CorruptedQuality(
        corruption.name,
        severity,
        corruption.describe(severity),
        quality,
        clean_figure(judged, clean, labels),
        _advantage(judged, quality, outputs[0], clean, labels),
    )


def _labels(judged: Judged, indices: NDArray[np.int64], outputs: Arrays) -> Array | None:
    if judged.labels is None:
        return None
    if judged.kind == "embedding":
        return np.asarray(judged.labels[indices])
    # Encoded by all labels: in a part of them a class may be absent.
    encoded, _ = encode_labels(judged.labels, judged.classes, outputs)
    return np.asarray(encoded[indices])


def clean_figure(judged: Judged, clean: Arrays, labels: Array | None) -> float | None:
    """Return the baseline's figure on samples as they are; ``None`` for an embedding."""
    if judged.kind == "embedding" or labels is None:
        return None
    if judged.kind == "corpus":
        return float(judged.metric(clean, labels))
    return float(score(judged.metric, judged.name, clean, labels).mean())


def _advantage(
    judged: Judged, quality: PairedQuality, outputs: Arrays, clean: Arrays, labels: Array | None
) -> NDArray[np.float64]:
    """Return by how much the baseline does better than guessing, see `CorruptedQuality`."""
    random = np.random.default_rng(SEED)
    count = len(quality.baseline_scores)
    if judged.kind == "embedding":
        held = [_unit(judged.metric(side, labels)) for side in (outputs, clean)]
        other = (np.arange(count) + 1) % count
        return np.asarray((held[0] * held[1]).sum(axis=1) - (held[0] * held[1][other]).sum(axis=1))
    assert labels is not None
    if judged.kind == "corpus":
        guesses = [
            float(judged.metric(outputs, labels[random.permutation(count)]))
            for _ in range(CORPUS_PERMUTATIONS)
        ]
        return np.asarray(quality.resamples["baseline"][1:] - np.mean(guesses))
    guessed = np.mean(
        [
            score(judged.metric, judged.name, outputs, labels[random.permutation(count)])
            for _ in range(PERMUTATIONS)
        ],
        axis=0,
    )
    apart = quality.baseline_scores - guessed
    return np.asarray(apart if judged.kind == "proportion" else -apart, dtype=np.float64)


def _unit(rows: Any) -> NDArray[np.float64]:
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1.0))
