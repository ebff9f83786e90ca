"""The gate ``robustness`` for models that generate text: perplexity of corrupted text."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.corruption import OWN, generator
from pytest_edgeai.measure.corruption_text import EFFECTS
from pytest_edgeai.measure.dataset import stage_arrays
from pytest_edgeai.measure.language import LoadedLanguageRunnable, compare_text
from pytest_edgeai.measure.tokens import INPUT_IDS, load_blocks
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import PairedQuality
from pytest_edgeai.specification import TEXT_SUFFIX, DataSource, ModelSpec
from pytest_edgeai.workbench import Workbench, title

FEWEST_BLOCKS = 8
"""Blocks of each corruption that are scored whatever they cost: the t-test of block means needs as
many."""
PERPLEXITY = "perplexity"


def text_fault(spec: ModelSpec, names: Sequence[str]) -> tuple[str, str]:
    """Return why a language model's data cannot be corrupted, and what to do; empty if they can."""
    path = spec.data.path
    if path is None or path.suffix != TEXT_SUFFIX:
        return (
            "the evaluation data are token ids, and no text that could be corrupted",
            f'name a text: data = "heldout{TEXT_SUFFIX}" in {spec.where}',
        )
    own = [name for name in names if OWN in name]
    if own:
        return (
            f'"{own[0]}" corrupts arrays, and a language model is judged on text',
            f"name {' or '.join(EFFECTS)} in [production] corruptions",
        )
    return "", ""


def corrupted_texts(
    bench: Workbench,
    candidate: PlannedCandidate,
    names: Sequence[str],
    severity: int,
    budget_s: float | None,
) -> list[CorruptedQuality]:
    """Score the same corrupted text with both models.

    Args:
        bench: makes and measures.
        candidate: what is judged.
        names: the corruptions, without a `text_fault`.
        severity: 1 to 5.
        budget_s: time for all of them; ``None`` for all of the text.

    Raises:
        EdgeAIError: a model could not be run.
    """
    blocks = _corrupted_blocks(bench, candidate, names, severity)
    prepared = bench.model(candidate.model.name)
    assert prepared.language is not None
    folder = bench.scratch / prepared.spec.name / "robustness" / candidate.comparison
    limit_s = bench.session.settings.time_limit
    count = min(len(held) for held in blocks.values())
    scored: dict[str, list[PairedQuality]] = {name: [] for name in names}
    vocabulary = 0
    try:
        with ExitStack() as stack:
            models = [
                stack.enter_context(
                    closing(
                        LoadedLanguageRunnable(
                            runnable, prepared.samples, prepared.language, time_limit_s=limit_s
                        )
                    )
                )
                for runnable in (
                    bench.baseline_runnable(candidate),
                    bench.candidate_runnable(candidate),
                )
            ]
            vocabulary = models[0].vocabulary
            begin, first, step = time.perf_counter(), 0, min(FEWEST_BLOCKS, count)
            while first < count:
                part = np.concatenate([blocks[name][first : first + step] for name in names])
                whole = _compare(bench, candidate, models, part, folder)
                for number, name in enumerate(names):
                    rows = slice(number * step, (number + 1) * step)
                    scored[name].append(
                        replace(
                            whole,
                            baseline_scores=whole.baseline_scores[rows],
                            candidate_scores=whole.candidate_scores[rows],
                        )
                    )
                spent_s = time.perf_counter() - begin
                first += step
                if budget_s is not None and spent_s * (first + step) / first > budget_s:
                    break
                step = min(step, count - first)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [_result(name, severity, scored[name], vocabulary) for name in names]


def _corrupted_blocks(
    bench: Workbench, candidate: PlannedCandidate, names: Sequence[str], severity: int
) -> dict[str, NDArray[np.int32]]:
    """Return the token ids of the text under each corruption, in blocks of the same length."""
    prepared = bench.model(candidate.model.name)
    spec, source = prepared.spec, prepared.spec.data
    assert source.path is not None
    text = source.path.read_text(encoding="utf-8")
    place = bench.scratch / spec.name / "corrupted"
    place.mkdir(parents=True, exist_ok=True)
    blocks: dict[str, NDArray[np.int32]] = {}
    for name in names:
        effect, table, _ = EFFECTS[name]
        path = place / f"{name}-{severity}{TEXT_SUFFIX}"
        path.write_text(effect(text, table[severity - 1], generator(name, 0)), encoding="utf-8")
        loaded = load_blocks(
            DataSource(path, None, source.where),
            prepared.facts.language,
            directory=bench.session.manifest.directory,
            context_length=prepared.language.context_tokens if prepared.language else None,
            context_where=f"{spec.where} context_length",
            tokenize=lambda corrupted: bench.tokenize(spec, corrupted),
        )
        blocks[name] = loaded.arrays[INPUT_IDS]
    return blocks


def _compare(
    bench: Workbench,
    candidate: PlannedCandidate,
    models: Sequence[LoadedLanguageRunnable],
    ids: NDArray[np.int32],
    folder: Path,
) -> PairedQuality:
    place = folder / "blocks"
    try:
        paths = stage_arrays({INPUT_IDS: ids}, place)
        for model in models:
            model.plan = replace(model.plan, ids=paths[INPUT_IDS], blocks=len(ids))
        quality, _, _ = compare_text(
            models[0],
            models[1],
            folder / "exchange",
            lambda done: bench.progress.step(
                title(candidate),
                f"scoring {len(ids)} blocks of corrupted text with both models",
                done / len(ids),
            ),
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return quality


def _result(
    name: str, severity: int, parts: Sequence[PairedQuality], vocabulary: int
) -> CorruptedQuality:
    quality = PairedQuality(
        PERPLEXITY,
        "perplexity",
        np.concatenate([part.baseline_scores for part in parts]),
        np.concatenate([part.candidate_scores for part in parts]),
        None,
    )
    _, table, words = EFFECTS[name]
    # Guessing gives every token of the vocabulary the same probability.
    advantage = math.log(vocabulary) - quality.baseline_scores
    strength = words.format(table[severity - 1])
    return CorruptedQuality(name, severity, strength, quality, None, advantage)
