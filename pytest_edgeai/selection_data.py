"""Which samples a search chooses by: never those that the gates judge by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pytest_edgeai.measure.dataset import LABELS, load_arrays, npz_headers
from pytest_edgeai.specification import Catalogue, DataSource, ModelSpec, Part
from pytest_edgeai.tasks import GENERATION_TASKS


@dataclass(frozen=True)
class SelectionPlan:
    """Where the samples come from.

    Attributes:
        search: the model as the search sees it; its evaluation data are the selection data.
        gates: the model as the gates see it.
        words: what is taken, for people.
    """

    search: ModelSpec
    gates: ModelSpec
    words: str


def plan_selection(
    model: ModelSpec, catalogue: Catalogue, directory: Path, *, share: float
) -> SelectionPlan:
    """Return what a search of a model chooses by.

    The model's own selection data where it has some; else its calibration data, which is never
    evaluation data, where that can be scored; else a part of the evaluation data, which the gates
    then leave out.

    Args:
        model: the model.
        catalogue: for its metric.
        directory: where callables are imported from.
        share: share of the evaluation data that a search takes.

    Raises:
        ModelError: the calibration data cannot be read.
    """
    if model.selection is not None:
        words = f'the model\'s selection data "{_name(model.selection)}"'
        return SelectionPlan(replace(model, data=model.selection), model, words)
    if model.calibration is not None and _can_be_scored(model, catalogue, directory):
        words = f'the calibration data "{_name(model.calibration)}"'
        return SelectionPlan(replace(model, data=model.calibration), model, words)
    words = (
        f"{share:.0%} of the evaluation data, told by a digest of each sample; the gates judge by "
        "the rest alone"
    )
    return SelectionPlan(
        replace(model, part=Part("selection", share)),
        replace(model, part=Part("evaluation", share)),
        words,
    )


def _name(source: DataSource) -> str:
    return source.path.name if source.path is not None else str(source.reference)


def _can_be_scored(model: ModelSpec, catalogue: Catalogue, directory: Path) -> bool:
    """Return whether the calibration data has what the metric reads."""
    source = model.calibration
    assert source is not None
    metric = catalogue.metrics.get(model.metric)
    if model.task in GENERATION_TASKS or (metric is not None and metric.kind == "embedding"):
        return True
    if source.path is not None:
        return LABELS in npz_headers(source)
    return LABELS in load_arrays(source, directory)
