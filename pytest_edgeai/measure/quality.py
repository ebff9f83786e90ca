"""Turn the outputs of baseline and candidate into paired scores and facts about the outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.corpus import corpus_quality
from pytest_edgeai.measure.embedding import DEFAULT_NEIGHBORS, embedding_quality
from pytest_edgeai.measure.metrics import check_labels, is_text
from pytest_edgeai.records import OutputSanity, PairedQuality
from pytest_edgeai.samples import QualityKind

Outputs = Mapping[str, NDArray[Any]]
Metric = Callable[[Outputs, NDArray[Any]], Any]
GROUPS = ("slices", "resamples", "cosines")
"""Fields of `PairedQuality` that hold arrays by name."""
PARTS = "parts"


def encode_labels(
    labels: NDArray[Any], classes: tuple[str, ...] | None, outputs: Outputs
) -> tuple[NDArray[Any], str]:
    """Return labels as a metric takes them, and a note where their order had to be assumed.

    String labels stay strings where an output answers in strings; otherwise they become column
    numbers, by ``classes`` or, where the columns are as many as the distinct labels, in sorted
    order.

    Raises:
        ModelError: a label that is no class, or an order that cannot be known.
    """
    if not is_text(labels) or any(is_text(array) and array.ndim == 1 for array in outputs.values()):
        return labels, ""
    columns = {array.shape[1] for array in outputs.values() if array.ndim == 2}
    names = _class_order(labels, classes, columns)
    note = ""
    if classes is None:
        listed = ", ".join(names)
        note = f"string labels were taken as the output's columns in sorted order: {listed}"
    order = {name: index for index, name in enumerate(names)}
    encoded = np.asarray([order[str(label)] for label in labels.reshape(-1).tolist()], np.int64)
    return encoded.reshape(labels.shape), note


def _class_order(
    labels: NDArray[Any], classes: tuple[str, ...] | None, columns: Collection[int | None]
) -> tuple[str, ...]:
    """Return the names of the output's columns: as stated, or else the labels in sorted order.

    Raises:
        ModelError: a label is no class, or the labels are not as many as the columns.
    """
    present = sorted({str(label) for label in labels.reshape(-1).tolist()})
    if classes is None:
        if len(present) not in columns:
            raise ModelError(
                f"labels are strings ({len(present)} distinct) and nothing says which column is "
                "which",
                allowed='classes = ["first column", ...] in the manifest, or an array "classes" in '
                "the data",
            )
        return tuple(present)
    unknown = [label for label in present if label not in classes]
    if unknown:
        raise ModelError(f'label "{unknown[0]}" is no class', allowed=", ".join(classes))
    return classes


def select_outputs(outputs: Outputs, name: str | None) -> Outputs:
    """Return only the output that the manifest chose; all of them where it chose none.

    Raises:
        ModelError: there is no such output.
    """
    if name is None:
        return outputs
    if name not in outputs:
        raise ModelError(f'no output "{name}"', allowed=", ".join(outputs))
    return {name: outputs[name]}


def score(metric: Metric, name: str, outputs: Outputs, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return one finite score per sample.

    Raises:
        ModelError: the metric raised, or returned something else.
    """
    try:
        scores = np.asarray(metric(outputs, labels), dtype=np.float64)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f'metric "{name}" raised {type(error).__name__}: {error}') from error
    if scores.shape != (len(labels),):
        raise ModelError(
            f'metric "{name}" returned shape {scores.shape}',
            allowed=f"one score per sample: ({len(labels)},)",
        )
    return scores


def compared_quality(
    metric: Metric,
    name: str,
    kind: QualityKind,
    baseline: Outputs,
    candidate: Outputs,
    labels: NDArray[Any] | None,
    *,
    slices: Mapping[str, NDArray[Any]] | None = None,
    neighbors: int = DEFAULT_NEIGHBORS,
    progress: Callable[[float], None] = lambda done: None,
) -> PairedQuality:
    """Compare both models on the same samples by a metric of any kind but perplexity.

    Args:
        metric: the metric's callable.
        name: for errors.
        kind: what it returns.
        baseline: output name to array.
        candidate: likewise.
        labels: shape ``(samples, ...)``; ``None`` for an embedding alone.
        slices: what divides the samples.
        neighbors: k of an embedding's recall@k.
        progress: told the share of the resamples that is done.

    Raises:
        ModelError: the metric does not fit, or gave something outside of its kind.
    """
    if kind == "embedding":
        return embedding_quality(
            metric, name, baseline, candidate, labels, neighbors=neighbors, slices=slices
        )
    if labels is None:
        raise ModelError(f'metric "{name}" needs labels', allowed="one label per sample")
    if kind == "corpus":
        return corpus_quality(
            metric, name, baseline, candidate, labels, slices=slices, progress=progress
        )
    if kind == "perplexity":
        raise ModelError(f'metric "{name}" is measured on text', allowed="another metric")
    scores = paired_quality(metric, name, kind, baseline, candidate, labels)
    return replace(scores, slices=dict(slices or {}))


def paired_quality(
    metric: Metric,
    name: str,
    kind: Literal["proportion", "loss"],
    baseline: Outputs,
    candidate: Outputs,
    labels: NDArray[Any],
) -> PairedQuality:
    """Score both models on the same samples.

    Raises:
        ModelError: a score is not finite or outside of the metric's kind.
    """
    scores = [score(metric, name, outputs, labels) for outputs in (baseline, candidate)]
    for side, values in zip(("baseline", "candidate"), scores, strict=True):
        wrong = ~np.isfinite(values) if side == "baseline" else np.isnan(values)
        wrong = wrong | ((values != 0) & (values != 1) if kind == "proportion" else values < 0)
        if wrong.any():
            raise ModelError(
                f'metric "{name}" gave {values[wrong][0]} for {side} sample '
                f"{int(np.argmax(wrong))}",
                allowed="0 or 1" if kind == "proportion" else "a number, 0 or above",
            )
    classes = labels if labels.ndim == 1 and labels.dtype.kind in "iuUT" else None
    return PairedQuality(name, kind, scores[0], scores[1], classes)


def name_classes(quality: PairedQuality, labels: NDArray[Any] | None) -> PairedQuality:
    """Return scores whose classes are named as the data's labels are, before their encoding."""
    if quality.classes is not None:
        return replace(quality, classes=labels)
    parts = quality.parts
    if parts is None or parts.classes is None or labels is None:
        return quality
    if labels.shape != parts.classes.shape:
        return quality
    return replace(quality, parts=replace(parts, classes=labels))


def quality_arrays(quality: PairedQuality) -> dict[str, NDArray[Any]]:
    """Return what a ``.npz`` file keeps of scores; see `quality_from_arrays`."""
    arrays: dict[str, NDArray[Any]] = {
        "baseline_scores": quality.baseline_scores,
        "candidate_scores": quality.candidate_scores,
    }
    if quality.classes is not None:
        arrays["classes"] = quality.classes
    for group in GROUPS:
        arrays.update({f"{group}.{name}": held for name, held in getattr(quality, group).items()})
    if quality.parts is not None:
        inner = quality_arrays(quality.parts)
        arrays.update({f"{PARTS}.{name}": held for name, held in inner.items()})
        arrays[f"{PARTS}.metric"] = np.asarray(quality.parts.metric)
    return arrays


def quality_from_arrays(
    metric: str, kind: Any, arrays: Mapping[str, NDArray[Any]]
) -> PairedQuality:
    """Return the scores that `quality_arrays` was given."""
    groups: dict[str, dict[str, NDArray[Any]]] = {group: {} for group in GROUPS}
    for key, held in arrays.items():
        group, _, name = key.partition(".")
        if group in groups:
            groups[group][name] = held
    inner = {
        key.removeprefix(f"{PARTS}."): held
        for key, held in arrays.items()
        if key.startswith(f"{PARTS}.")
    }
    parts = None
    if inner:
        parts = quality_from_arrays(str(inner["metric"]), "proportion", inner)
    return PairedQuality(
        metric,
        kind,
        arrays["baseline_scores"],
        arrays["candidate_scores"],
        arrays.get("classes"),
        **groups,
        parts=parts,
    )


def output_sanity(baseline: Outputs, candidate: Outputs, quality: PairedQuality) -> OutputSanity:
    """Compare what both models returned for all samples."""
    breaches = _contract_breaches(baseline, candidate)
    nan: dict[str, int] = {}
    infinite: dict[str, int] = {}
    constant: list[str] = []
    for name, array in candidate.items():
        reference = baseline.get(name)
        if array.dtype.kind == "f":
            comparable = reference
            if reference is not None and (reference.shape, reference.dtype.kind) != (
                array.shape,
                "f",
            ):
                comparable = None
            for test, counts in ((np.isnan, nan), (np.isinf, infinite)):
                found = test(array)
                if comparable is not None:
                    found &= ~test(comparable)
                if found.any():
                    counts[name] = int(found.sum())
        if reference is not None and _varies(reference) and not _varies(array):
            constant.append(name)
    collapsed, support = _collapse(quality)
    return OutputSanity(
        samples=len(quality.baseline_scores),
        contract_breaches=breaches,
        nan_outputs=nan,
        inf_outputs=infinite,
        constant_outputs=tuple(constant),
        collapsed_classes=collapsed,
        class_support=support,
    )


def _contract_breaches(baseline: Outputs, candidate: Outputs) -> tuple[str, ...]:
    breaches = [f'output "{name}" is missing' for name in baseline if name not in candidate]
    breaches += [
        f'output "{name}" was not there before' for name in candidate if name not in baseline
    ]
    for name in baseline:
        if name not in candidate:
            continue
        old, new = baseline[name], candidate[name]
        old_kind = "str" if is_text(old) else old.dtype.name
        new_kind = "str" if is_text(new) else new.dtype.name
        if old_kind != new_kind:
            breaches.append(f'output "{name}" was {old_kind} and is {new_kind}')
        if old.shape[1:] != new.shape[1:] or old.ndim != new.ndim:
            breaches.append(
                f'output "{name}" had shape {old.shape[1:]} per sample and has {new.shape[1:]}'
            )
    return tuple(breaches)


def _varies(array: NDArray[Any]) -> bool:
    return len(array) > 1 and bool((array[1:] != array[:1]).any())


def _collapse(quality: PairedQuality) -> tuple[tuple[str, ...], dict[str, int]]:
    quality = quality.parts or quality
    if quality.classes is None or quality.kind != "proportion":
        return (), {}
    collapsed: list[str] = []
    support: dict[str, int] = {}
    for name in np.unique(quality.classes).tolist():
        members = quality.classes == name
        support[str(name)] = int(members.sum())
        if (
            quality.baseline_scores[members].sum() > 0
            and quality.candidate_scores[members].sum() == 0
        ):
            collapsed.append(str(name))
    return tuple(collapsed), support


def check_label_fit(
    labels: NDArray[Any],
    classes: tuple[str, ...] | None,
    columns: int | None,
    *,
    answers_in_text: bool,
) -> None:
    """Check labels against the model's outputs before anything runs.

    Args:
        labels: the evaluation data's labels.
        classes: names of the output's columns, where somebody states them.
        columns: number of the output's columns; ``None`` where it is not known yet.
        answers_in_text: whether the model answers with strings, so that columns do not matter.

    Raises:
        ModelError: wrong shape, dtype or range, a label that is no class, or an order of the
            columns that cannot be known.
    """
    if not is_text(labels):
        check_labels(labels, columns)
    elif labels.ndim != 1:
        raise ModelError(f"labels have shape {labels.shape}", allowed="one class per sample")
    elif not answers_in_text and (classes is not None or columns is not None):
        _class_order(labels, classes, {columns})
