"""Make one model of the manifest ready to be run: hash it, read its data, check all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.measure.bench import Samples
from pytest_edgeai.measure.dataset import (
    Dataset,
    batching,
    import_reference,
    load_dataset,
    stage_arrays,
)
from pytest_edgeai.measure.detection import check_objects
from pytest_edgeai.measure.embedding import (
    RECALL_NEIGHBORS,
    check_groups,
    check_neighbors,
)
from pytest_edgeai.measure.language import LanguagePlan
from pytest_edgeai.measure.metrics import is_text
from pytest_edgeai.measure.overlap import check_overlap
from pytest_edgeai.measure.parts import take_part
from pytest_edgeai.measure.quality import Metric, check_label_fit
from pytest_edgeai.records import ModelFacts, TensorSpec
from pytest_edgeai.samples import QualityKind
from pytest_edgeai.specification import Catalogue, Manifest, ModelSpec
from pytest_edgeai.tasks import CLASSIFICATION_TASKS

KINDS: tuple[QualityKind, ...] = ("proportion", "loss", "corpus", "embedding")
"""What a metric of a model's outputs can be."""
CLASS_METRICS = ("accuracy", "f1")
"""Metrics that read one class per sample."""


@dataclass(frozen=True, eq=False)
class PreparedModel:
    """A model with everything that running it takes.

    Attributes:
        spec: its manifest entry.
        facts: what its file says, hash included.
        evaluation: evaluation data, with labels.
        calibration: calibration data; ``None`` where there is none.
        samples: the evaluation data, staged for workers.
        calibration_samples: the calibration data, staged for workers.
        metric: the metric's callable; ``None`` for perplexity.
        metric_name: its name.
        metric_kind: what its scores are.
        language: how a language model is fed; ``None`` for any other model.
    """

    spec: ModelSpec
    facts: ModelFacts
    evaluation: Dataset
    calibration: Dataset | None
    samples: Samples
    calibration_samples: Samples | None
    metric: Metric | None
    metric_name: str
    metric_kind: QualityKind
    language: LanguagePlan | None = None


def prepare_model(
    spec: ModelSpec, catalogue: Catalogue, manifest: Manifest, scratch: Path
) -> PreparedModel:
    """Read and check everything about one model, before anything is optimized.

    Args:
        spec: the manifest entry.
        catalogue: for the metric.
        manifest: whose directory is the import path of callables, and whose ``[gates]`` hold
            for the model where its own say nothing.
        scratch: where samples are staged.

    Raises:
        ModelError: names the manifest's key, what is wrong and what is allowed.
    """
    directory = manifest.directory
    facts = read_model(spec.path, with_hash=True)
    names = [output.name for output in facts.outputs]
    if spec.output is not None and spec.output not in names:
        raise ModelError(
            f'the model has no output "{spec.output}"',
            where=f"{spec.where} output",
            allowed=", ".join(names),
            advice=did_you_mean(spec.output, names),
        )
    metric, kind = _metric(spec, catalogue, directory)
    evaluation = load_dataset(
        spec.data,
        facts.inputs,
        directory=directory,
        needs_labels=kind != "embedding",
        slices=spec.slices,
        # What a search chooses by need not be divided as the evaluation data are.
        needs_slices=spec.data is not spec.calibration and spec.data is not spec.selection,
    )
    if spec.part is not None:
        evaluation = take_part(evaluation, spec.part)
    plan = batching(evaluation, facts.inputs, open_batch=spec.batch)
    if not plan.fixed and plan.samples_per_call > evaluation.samples:
        raise ModelError(
            f"{spec.batch} samples per call, and the evaluation data has {evaluation.samples}",
            where=f"{spec.where} batch",
            allowed=f"1 to {evaluation.samples}",
        )
    _check_evaluation(spec, facts, evaluation, kind)
    if kind == "embedding":
        _check_neighbors(spec, manifest, evaluation)
    calibration = calibration_samples = None
    if spec.calibration is not None:
        calibration = load_dataset(
            spec.calibration,
            facts.inputs,
            directory=directory,
            needs_labels=False,
            slices=spec.slices,
        )
        calibration_plan = batching(calibration, facts.inputs, open_batch=spec.batch)
        if spec.calibration is not spec.data:
            check_overlap(evaluation, calibration)
        calibration_samples = Samples(
            stage_arrays(calibration.arrays, scratch / spec.name / "calibration"),
            calibration.samples,
            calibration_plan,
        )
    return PreparedModel(
        spec=spec,
        facts=facts,
        evaluation=evaluation,
        calibration=calibration,
        samples=Samples(
            stage_arrays(evaluation.arrays, scratch / spec.name / "evaluation"),
            evaluation.samples,
            plan,
        ),
        calibration_samples=calibration_samples,
        metric=metric,
        metric_name=spec.metric,
        metric_kind=kind,
    )


def _check_evaluation(
    spec: ModelSpec, facts: ModelFacts, evaluation: Dataset, kind: QualityKind
) -> None:
    """Check the labels as far as the metric is known to read them.

    Raises:
        ModelError: they do not fit.
    """
    labels = evaluation.labels
    if labels is None:
        return
    if spec.metric in CLASS_METRICS and spec.task in CLASSIFICATION_TASKS:
        _check_labels(spec, facts, evaluation)
    try:
        if spec.metric == "mean_average_precision":
            check_objects(labels)
        if kind == "embedding":
            check_groups(labels)
    except ModelError as error:
        raise ModelError(
            error.what, where=spec.data.where, allowed=error.allowed, advice=error.advice
        ) from None


def _check_neighbors(spec: ModelSpec, manifest: Manifest, evaluation: Dataset) -> None:
    """Check the manifest's k of recall@k; the default one bends to the samples by itself.

    Raises:
        ModelError: it takes every sample for a neighbor.
    """
    own = RECALL_NEIGHBORS in spec.gates
    stated = (spec.gates if own else manifest.gates).get(RECALL_NEIGHBORS)
    if isinstance(stated, (int, float)):
        holder = (
            f"{spec.where.removesuffix(']')}."
            if own
            else spec.where.removesuffix(f"models.{spec.name}]")
        )
        check_neighbors(int(stated), evaluation.samples, f"{holder}gates] {RECALL_NEIGHBORS}")


def _check_labels(spec: ModelSpec, facts: ModelFacts, evaluation: Dataset) -> None:
    labels = evaluation.labels
    assert labels is not None
    answers_in_text = any(
        output.dtype == "str" and spec.output in (None, output.name) for output in facts.outputs
    )
    scores = _score_outputs(facts, spec.output)
    known = [output for output in scores if output.shape[1] is not None]
    if len(known) > 1 and not (is_text(labels) and answers_in_text):
        names = [output.name for output in known]
        raise ModelError(
            f"several outputs could answer with classes ({', '.join(names)})",
            where=spec.where,
            allowed=" or ".join(f'output = "{name}"' for name in names),
        )
    columns = scores[0].shape[1] if len(scores) == 1 else None
    classes = spec.classes or evaluation.classes
    if classes is not None and columns is not None and len(classes) != columns:
        raise ModelError(
            f"{len(classes)} classes are named, and the model's output has {columns} columns",
            where=f"{spec.where} classes" if spec.classes else spec.data.where,
            allowed="one name per column, in order",
        )
    try:
        check_label_fit(labels, classes, columns, answers_in_text=answers_in_text)
    except ModelError as error:
        raise ModelError(
            error.what, where=spec.data.where, allowed=error.allowed, advice=error.advice
        ) from None


def _metric(spec: ModelSpec, catalogue: Catalogue, directory: Path) -> tuple[Metric, QualityKind]:
    descriptor = catalogue.metrics.get(spec.metric)
    reference = descriptor.implementation if descriptor else spec.metric
    metric: Any = import_reference(reference, directory, f"{spec.where} metric")
    if not callable(metric):
        raise ModelError(f'"{reference}" is not callable', where=f"{spec.where} metric")
    kind = descriptor.kind if descriptor else getattr(metric, "kind", "proportion")
    if kind not in KINDS:
        raise ModelError(
            f'metric "{spec.metric}" is of kind {kind!r}',
            where=f"{spec.where} metric",
            allowed=", ".join(f'"{known}"' for known in KINDS),
        )
    return cast("Metric", metric), cast("QualityKind", kind)


def _score_outputs(facts: ModelFacts, output: str | None) -> list[TensorSpec]:
    """Return the outputs that could hold one score per class, as far as the model's file tells."""
    return [
        spec
        for spec in facts.outputs
        if spec.dtype.startswith("float")
        and len(spec.shape) == 2
        and spec.shape[1] != 1
        and output in (None, spec.name)
    ]
