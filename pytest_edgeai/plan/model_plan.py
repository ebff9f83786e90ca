"""Plan one model for all targets of a session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_edgeai.descriptors import TargetDescriptor
from pytest_edgeai.errors import ModelError
from pytest_edgeai.plan.selection import (
    PlannedCandidate,
    Surroundings,
    choose,
    lacks_calibration,
)
from pytest_edgeai.records import ModelFacts, Recipe
from pytest_edgeai.specification import ModelSpec

ALL_TARGETS = "all"


@dataclass(frozen=True)
class Unserved:
    """A model that is not gated for a target, because this host cannot serve it.

    Attributes:
        model: name of the model.
        target: name of the target.
        reason: why, framework by framework.
    """

    model: str
    target: str
    reason: str


@dataclass(frozen=True)
class Planned:
    """The plan of one model.

    Attributes:
        candidates: what will be made and gated, those of one recipe side by side.
        path: one sentence per decision, with its target in front where there are several.
        unserved: targets that are left out.
    """

    candidates: tuple[PlannedCandidate, ...]
    path: tuple[str, ...]
    unserved: tuple[Unserved, ...]


def plan_model(
    model: ModelSpec,
    facts: ModelFacts,
    targets: Sequence[TargetDescriptor],
    around: Surroundings,
    *,
    only_served: bool,
) -> Planned:
    """Return the plan of a model for the targets that its manifest does not exclude.

    Args:
        model: the model.
        facts: what its file says.
        targets: the session's targets.
        around: what the choice depends on besides.
        only_served: leave out a target that this host cannot serve, instead of planning candidates
            that cannot be made.

    Raises:
        ModelError: no framework can take it, or a recipe cannot be used.
    """
    candidates: list[PlannedCandidate] = []
    path: list[str] = []
    unserved: list[Unserved] = []
    for target in targets:
        if model.targets is not None and target.name not in model.targets:
            continue
        choice = choose(model, facts, target, around)
        prefix = f"{target.name}: " if around.name_target else ""
        path += [prefix + step for step in choice.path]
        ready = [each for each in choice.candidates if not each.unavailable]
        if only_served and not ready:
            reasons = "; ".join(choice.path) or "none of its frameworks was asked for"
            unserved.append(Unserved(model.name, target.name, reasons))
        candidates += ready if only_served else choice.candidates
    if not candidates:
        raise ModelError(_nothing(path, unserved), where=model.where)
    _check(model, candidates)
    return Planned(tuple(_side_by_side(candidates)), tuple(path), tuple(unserved))


def _nothing(path: Iterable[str], unserved: Sequence[Unserved]) -> str:
    if not unserved:
        return f"no framework can take it ({'; '.join(path)})"
    reasons = "; ".join(dict.fromkeys(each.reason for each in unserved))
    return f"this host can serve none of {len(unserved)} targets ({reasons})"


def _check(model: ModelSpec, candidates: Sequence[PlannedCandidate]) -> None:
    """Refuse recipes that lack calibration data, and two different ones of the same name."""
    known: dict[str, Recipe] = {}
    for candidate in candidates:
        recipe = candidate.recipe
        if lacks_calibration(candidate):
            raise ModelError(
                f'recipe "{recipe.id}" needs calibration data',
                where=model.where,
                allowed='calibration = "FILE.npz"',
            )
        # Artifacts and measurements go by this name, and targets share them.
        if known.setdefault(recipe.id, recipe).options != recipe.options:
            raise ModelError(
                f'two different recipes are named "{recipe.id}"',
                where=model.where,
                allowed="a label that tells them apart",
            )


def _side_by_side(candidates: Sequence[PlannedCandidate]) -> list[PlannedCandidate]:
    """Return the candidates with those of one recipe side by side, so that each is loaded once."""
    first = {each.recipe.id: place for place, each in reversed(list(enumerate(candidates)))}
    return sorted(candidates, key=lambda each: first[each.recipe.id])
