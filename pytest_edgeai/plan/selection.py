"""Choose the candidates of one model and target, and say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.descriptors import FrameworkDescriptor, TargetDescriptor
from pytest_edgeai.errors import UserError, unknown_word
from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.records import ModelFacts, Recipe
from pytest_edgeai.specification import BASELINES, ModelSpec

PRIMARY = "primary"
ALL = "all"
NATIVE_FRAMEWORKS: Mapping[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Model format to the framework that it is deployed with today."""

ChooseRecipes = Callable[[ModelSpec, ModelFacts, str, str], Sequence[Recipe] | None]
Missing = Callable[[str], str]
"""Framework name to why it cannot run here; an empty string where it can."""


@dataclass(frozen=True)
class PlannedCandidate:
    """One candidate that a session is to make and gate.

    Attributes:
        model: the model.
        target: the target.
        recipe: how to make it.
        node: its name in test ids, unique within the model.
        baseline_framework: the framework that runs the baseline.
        unavailable: why it cannot be made here; empty where it can.
        demanded: whether the user named its framework, so that being unavailable is a failure.
        proxy_reason: why the host is not of the target's kind; empty where it is.
    """

    model: ModelSpec
    target: TargetDescriptor
    recipe: Recipe
    node: str
    baseline_framework: str
    unavailable: str
    demanded: bool
    proxy_reason: str


@dataclass(frozen=True)
class Choice:
    """The candidates of one model and target with the path that led to them.

    Attributes:
        candidates: in order of preference.
        path: one sentence per decision.
    """

    candidates: tuple[PlannedCandidate, ...]
    path: tuple[str, ...]


def check_requested(
    requested: Sequence[str], frameworks: Mapping[str, FrameworkDescriptor], where: str
) -> None:
    """Refuse framework names that do not exist, and ``primary`` or ``all`` among names.

    Raises:
        UserError: names what is allowed.
    """
    allowed = (PRIMARY, ALL, *frameworks)
    for name in requested:
        if name not in allowed:
            raise unknown_word("framework", name, allowed, where=where)
    if len(requested) > 1 and (PRIMARY in requested or ALL in requested):
        raise UserError(
            f'"{",".join(requested)}" mixes words', where=where, allowed="primary, or all, or names"
        )


def choose(
    model: ModelSpec,
    facts: ModelFacts,
    target: TargetDescriptor,
    *,
    frameworks: Mapping[str, FrameworkDescriptor],
    requested: Sequence[str],
    choose_recipes: ChooseRecipes,
    missing: Missing,
    several_targets: bool,
    proxy_reason: str,
) -> Choice:
    """Return the candidates of ``model`` for ``target``.

    Args:
        model: the model.
        facts: what its file says.
        target: the target.
        frameworks: every known framework.
        requested: ``("primary",)``, ``("all",)`` or framework names.
        choose_recipes: asked first, unless the manifest lists recipes; ``None`` for the defaults.
        missing: says why a framework cannot run here.
        several_targets: whether the session has other targets, so that ids must name this one.
        proxy_reason: why the host is not of the target's kind.
    """
    by_name = requested[0] not in (PRIMARY, ALL)
    order = list(requested) if by_name else _order(model, target)
    candidates: list[PlannedCandidate] = []
    path: list[str] = []
    for name in order:
        descriptor = frameworks.get(name)
        if descriptor is None:
            path.append(f"{name}: not part of this installation")
            continue
        recipes = _recipes(model, facts, descriptor, target.name, choose_recipes)
        reason = _cannot_take(facts, descriptor, recipes)
        if reason:
            path.append(f"{name}: {reason}")
            continue
        why_missing = missing(name) or _missing_baseline(model, facts, descriptor, missing)
        candidates += [
            PlannedCandidate(
                model=model,
                target=target,
                recipe=recipe,
                node=f"{recipe.id}@{target.name}" if several_targets else recipe.id,
                baseline_framework=baseline_framework(model, facts, name),
                unavailable=why_missing,
                demanded=by_name,
                proxy_reason=proxy_reason,
            )
            for recipe in recipes
        ]
        path += [f"{recipe.id}: {why_missing or recipe.reason}" for recipe in recipes]
        if requested[0] == PRIMARY and not why_missing:
            break
    return Choice(tuple(candidates), tuple(path))


def baseline_framework(model: ModelSpec, facts: ModelFacts, framework: str) -> str:
    """Return the framework that runs the baseline beside a candidate of ``framework``."""
    native, same = BASELINES
    if model.baseline == native:
        return NATIVE_FRAMEWORKS[facts.format]
    return framework if model.baseline == same else model.baseline


def _order(model: ModelSpec, target: TargetDescriptor) -> list[str]:
    if model.recipes is None:
        return list(target.frameworks)
    listed = list(dict.fromkeys(recipe.framework for recipe in model.recipes))
    return [name for name in target.frameworks if name in listed] + [
        name for name in listed if name not in target.frameworks
    ]


def _recipes(
    model: ModelSpec,
    facts: ModelFacts,
    framework: FrameworkDescriptor,
    target: str,
    choose: ChooseRecipes,
) -> tuple[Recipe, ...]:
    if model.recipes is not None:
        return tuple(recipe for recipe in model.recipes if recipe.framework == framework.name)
    chosen = choose(model, facts, framework.name, target)
    if chosen is not None:
        return tuple(chosen)
    calibrated = model.calibration is not None
    defaults = default_recipes(framework.name, facts.architecture, calibrated=calibrated)
    if defaults:
        return defaults
    schemes = [scheme for scheme in framework.schemes if scheme != "convert"]
    return tuple(
        Recipe(framework.name, scheme, reason="its only default") for scheme in schemes[:1]
    )


def _cannot_take(
    facts: ModelFacts, framework: FrameworkDescriptor, recipes: tuple[Recipe, ...]
) -> str:
    if facts.format not in framework.formats:
        return f"does not take {facts.format} models"
    unknown = sorted(framework.unknown_operators & set(facts.operators))
    if unknown:
        return f"does not know the operator {unknown[0]}"
    return "" if recipes else "has no recipe for this model"


def _missing_baseline(
    model: ModelSpec, facts: ModelFacts, framework: FrameworkDescriptor, missing: Missing
) -> str:
    return missing(baseline_framework(model, facts, framework.name))


def lacks_calibration(candidate: PlannedCandidate) -> bool:
    """Return whether the recipe needs calibration data that the manifest does not name."""
    return candidate.recipe.scheme in NEEDS_CALIBRATION and candidate.model.calibration is None
