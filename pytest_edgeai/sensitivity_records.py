"""How harmful quantizing each layer is, and which layers were restored for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_edgeai.records import Recipe

RestoringEnd: TypeAlias = Literal["retention holds", "time box", "most layers", "every layer"]
"""Why restoring ended; retention was not reached but for the first."""


LAYER_OPTIONS = ("nodes_to_exclude", "ignored_names")
"""Options of recipes that leave layers at full precision, as frameworks call them."""


@dataclass(frozen=True)
class LayerSensitivity:
    """What quantizing one layer alone does to the model's outputs.

    Attributes:
        layer: its name, as the framework's option for layers to leave alone takes it.
        noise_ratio: power of the error of the model's outputs divided by the power of the outputs,
            when everything but this layer stays at full precision.
        measured_with: layers that it was measured together with, itself included; above 1 the time
            did not suffice to tell them apart, and ``noise_ratio`` is that of all of them divided
            by their number.
    """

    layer: str
    noise_ratio: float
    measured_with: int = 1


@dataclass(frozen=True)
class Sensitivity:
    """The quantized layers of one recipe.

    Attributes:
        recipe: id of the recipe.
        layers: every layer that the recipe quantizes, the most harmful first.
        all_layers_noise_ratio: likewise, with every layer quantized.
        calls: calls that were made with each model.
        evaluations: models that were made and run.
        seconds: how long it took.
        from_data: what the model was fed: ``selection`` or ``calibration`` data.
    """

    recipe: str
    layers: tuple[LayerSensitivity, ...]
    all_layers_noise_ratio: float
    calls: int
    evaluations: int
    seconds: float
    from_data: str


@dataclass(frozen=True)
class RestoringStep:
    """One artifact that was made and scored on the way.

    Attributes:
        restored: how many layers are at full precision in it, most harmful first.
        retained: quality on the selection data as a share of the baseline's; ``None``: the metric
            gave none.
        low: lower bound of it.
        high: upper bound; ``None``: open.
        holds: whether that is enough.
        size_bytes: of the artifact.
        seconds: for making and scoring it.
        problem: why it could not be made or scored; empty where it was.
    """

    restored: int
    retained: float | None
    low: float | None
    high: float | None
    holds: bool
    size_bytes: int
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Restoration:
    """The recipe with as few layers at full precision as retention takes, as far as was tried.

    Attributes:
        recipe: the recipe to use; the given one where no layer had to be restored. Its label names
            how many layers were restored, and a digest of which.
        restored: names of the restored layers, the most harmful first.
        holds: whether retention holds with it on the selection data.
        ended: why restoring ended.
        judged_by: ``interval`` where retention had to be shown beyond chance, ``estimate`` where
            the selection data is too small to ever show it.
        history: every artifact that was made, in order.
        sensitivity: the ranking that it followed; ``None`` where no layer had to be restored.
        seconds: for all of it.
    """

    recipe: Recipe
    restored: tuple[str, ...]
    holds: bool
    ended: RestoringEnd
    judged_by: Literal["interval", "estimate"]
    history: tuple[RestoringStep, ...]
    sensitivity: Sensitivity | None
    seconds: float
