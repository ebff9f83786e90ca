"""Make one language model of the manifest ready to be run: hash it, read its text, check both."""

from __future__ import annotations

import uuid
from pathlib import Path

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.bench import Samples
from pytest_edgeai.measure.dataset import Batching, Dataset, stage_arrays
from pytest_edgeai.measure.language import PERPLEXITY, LanguagePlan
from pytest_edgeai.measure.overlap import check_overlap
from pytest_edgeai.measure.parts import take_part
from pytest_edgeai.measure.tokens import INPUT_IDS, Tokenize, load_blocks, prompt_tokens
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.records import ModelFacts
from pytest_edgeai.specification import DataSource, ModelSpec


def prepare_language_model(
    spec: ModelSpec, directory: Path, scratch: Path, tokenize: Tokenize
) -> PreparedModel:
    """Read and check everything about one language model, before anything is optimized.

    Args:
        spec: the manifest entry, of a task that generates text.
        directory: the manifest's; import path of callables.
        scratch: where the token ids are staged.
        tokenize: the model's tokenizer; called for text files alone.

    Raises:
        ModelError: names the manifest's key, what is wrong and what is allowed.
    """
    if spec.metric != PERPLEXITY:
        raise ModelError(
            f'metric "{spec.metric}" is for models with labels',
            where=f"{spec.where} metric",
            allowed=PERPLEXITY,
        )
    facts = read_model(spec.path, with_hash=True)
    evaluation = _load(spec, spec.data, facts, directory, tokenize)
    if spec.part is not None:
        evaluation = take_part(evaluation, spec.part)
    samples = _stage(evaluation, scratch / spec.name / "evaluation")
    context_tokens = evaluation.arrays[INPUT_IDS].shape[1]
    calibration = calibration_samples = None
    if spec.calibration is not None:
        calibration = _load(spec, spec.calibration, facts, directory, tokenize)
        if spec.calibration is not spec.data:
            check_overlap(evaluation, calibration)
        calibration_samples = _stage(calibration, scratch / spec.name / "calibration")
    return PreparedModel(
        spec=spec,
        facts=facts,
        evaluation=evaluation,
        calibration=calibration,
        samples=samples,
        calibration_samples=calibration_samples,
        metric=None,
        metric_name=PERPLEXITY,
        metric_kind="perplexity",
        language=LanguagePlan(
            ids=samples.arrays[INPUT_IDS],
            blocks=evaluation.samples,
            context_tokens=context_tokens,
            prompt_tokens=prompt_tokens(
                spec.prompt_tokens, context_tokens, f"{spec.where} prompt_tokens"
            ),
        ),
    )


def unread_plan(facts: ModelFacts, context_tokens: int) -> LanguagePlan:
    """Return how a model is loaded that nobody named a text for: it can generate, and no more."""
    longest = facts.language.context_length if facts.language else None
    return LanguagePlan("", 0, min(context_tokens, longest or context_tokens), 1)


def _load(
    spec: ModelSpec, source: DataSource, facts: ModelFacts, directory: Path, tokenize: Tokenize
) -> Dataset:
    return load_blocks(
        source,
        facts.language,
        directory=directory,
        context_length=spec.context_length,
        context_where=f"{spec.where} context_length",
        tokenize=tokenize,
    )


def _stage(dataset: Dataset, place: Path) -> Samples:
    # A folder of its own for each reading: a worker may still map what an earlier one staged.
    arrays = stage_arrays(dataset.arrays, place / uuid.uuid4().hex[:8])
    return Samples(arrays, dataset.samples, Batching(None, True))
