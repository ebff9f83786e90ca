"""How another framework answers the samples that a model's own framework answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.agreement import (
    Outputs,
    decisions,
    differences,
    is_discrete,
    mismatch,
)
from pytest_edgeai.measure.consistency import output_spreads
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.measure.quality import select_outputs
from pytest_edgeai.production_records import FrameworkAnswers
from pytest_edgeai.tasks import CLASSIFICATION_TASKS

UNORDERED_TASKS = ("object-detection",)
"""Tasks whose answers are lists without an order that frameworks keep: ties fall either way."""


def compare_outputs(
    framework: str,
    reference: Outputs,
    other: Outputs,
    tolerance: float,
    *,
    task: str,
    selected: str | None,
) -> tuple[FrameworkAnswers, dict[str, NDArray[np.float64]]]:
    """Compare answers sample by sample.

    A sample agrees where every number of every output lies within ``tolerance`` of the output's
    spread and every discrete answer is equal. Discrete whole numbers of another dtype are compared
    by value, since frameworks differ in which integers they compute.

    Args:
        framework: name of the other framework.
        reference: output name to array, axis 0 the samples.
        other: likewise.
        tolerance: in units of the spread of the reference's output.
        task: Hugging Face task name.
        selected: the output that decides a class; ``None`` where that need not be said.

    Returns:
        the record, and for each output the difference of each sample in units of its spread (of
        discrete answers the share that differs).
    """
    wrong = mismatch(reference, other)
    if wrong:
        return FrameworkAnswers(framework, True, np.zeros(0, np.bool_), {}, problem=wrong), {}
    units = output_spreads(reference)
    apart: dict[str, NDArray[np.float64]] = {}
    agrees = np.ones(len(next(iter(reference.values()))), dtype=np.bool_)
    for name, array in reference.items():
        found = differences(array, other[name])
        if task in UNORDERED_TASKS and array.ndim > 1:
            found = np.minimum(found, differences(_in_order(array), _in_order(other[name])))
        apart[name] = found / units[name]
        agrees &= apart[name] <= (0.0 if is_discrete(array) else tolerance)
    changed: int | None = None
    if task in CLASSIFICATION_TASKS:
        decided, others = (
            decisions(select_outputs(outputs, selected)) for outputs in (reference, other)
        )
        if decided is not None and others is not None:
            changed = int(np.count_nonzero(decided.classes != others.classes))
    largest = {name: float(found.max(initial=0.0)) for name, found in apart.items()}
    return FrameworkAnswers(framework, True, agrees, largest, changed), apart


def _in_order(array: NDArray[Any]) -> NDArray[Any]:
    """Return each sample's entries sorted by themselves, so that their order plays no part."""
    return np.sort(np.asarray(array), axis=1)


def likeliest_tokens(model: LoadedLanguageRunnable, blocks: Sequence[int]) -> NDArray[np.int64]:
    """Return the token that a model finds likeliest at every place of some blocks of text.

    Returns:
        int64, shape ``(blocks, tokens - 1)``; -1 in a block whose logits hold NaN.
    """
    rows: list[NDArray[np.int64]] = []
    for block in blocks:
        # Asked alone, a model leaves the exchange file untouched.
        answer = model.score(block, Path("unused"), "alone")
        row = np.asarray(answer["likeliest"], dtype=np.int64)
        rows.append(np.full_like(row, -1) if answer["nan"] else row)
    return np.stack(rows)


def compare_tokens(
    framework: str, reference: NDArray[np.int64], other: NDArray[np.int64]
) -> FrameworkAnswers:
    """Compare predictions token by token; blocks of text are what is independent.

    Args:
        framework: name of the other framework.
        reference: int64, shape ``(blocks, tokens)``, of :func:`likeliest_tokens`.
        other: likewise.
    """
    blocks = np.repeat(np.arange(len(reference), dtype=np.int64), reference.shape[1])
    agrees = (reference == other).reshape(-1) & (reference >= 0).reshape(-1)
    return FrameworkAnswers(framework, True, agrees, {}, blocks=blocks)
