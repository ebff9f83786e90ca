"""The measurements that language models alone take."""

from __future__ import annotations

import numpy as np

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.language import (
    LoadedLanguageRunnable,
    Phase,
    compare_text,
)
from pytest_edgeai.measure.timed import Timed
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import OutputSanity, PairedQuality, TokenComparison
from pytest_edgeai.workbench import Workbench, place, title


def score_text(bench: Workbench, candidate: PlannedCandidate) -> tuple[PairedQuality, OutputSanity]:
    """Score the evaluation text with both models and keep the comparison token by token.

    Raises:
        EdgeAIError: a model could not be run.
    """
    baseline, other = (
        _language(loaded)
        for loaded in (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
    )
    blocks = other.plan.blocks
    exchange = bench.scratch / f"logits-{candidate.model.name}-{candidate.recipe.id}"
    quality, sanity, comparison = compare_text(
        baseline,
        other,
        exchange,
        lambda done: bench.progress.step(
            title(candidate), f"scoring {blocks} blocks of text with both models", done / blocks
        ),
    )
    bench.evidence.write_arrays(
        place(candidate, "tokens"),
        {
            "blocks": comparison.blocks,
            "baseline_nll": comparison.baseline_nll,
            "candidate_nll": comparison.candidate_nll,
            "divergence": comparison.divergence,
            "agrees": comparison.agrees,
        },
    )
    return quality, sanity


def token_comparison(bench: Workbench, candidate: PlannedCandidate) -> TokenComparison:
    """Return the comparison token by token of a text that was scored before.

    Raises:
        MeasurementError: it was not.
    """
    arrays = bench.evidence.read_arrays(place(candidate, "tokens"))
    if arrays is None:
        raise MeasurementError("the text was not scored")
    return TokenComparison(
        blocks=arrays["blocks"].astype(np.int64),
        baseline_nll=arrays["baseline_nll"],
        candidate_nll=arrays["candidate_nll"],
        divergence=arrays["divergence"],
        agrees=arrays["agrees"].astype(np.bool_),
    )


def timed(loaded: LoadedRunnable, phase: Phase) -> Timed:
    """Return what is timed of a loaded model: a language model's phase, or the model."""
    return loaded.phase(phase) if isinstance(loaded, LoadedLanguageRunnable) else loaded


def _language(loaded: LoadedRunnable) -> LoadedLanguageRunnable:
    if not isinstance(loaded, LoadedLanguageRunnable):
        raise MeasurementError("the model was not loaded as a language model")
    return loaded
