"""Choose the candidates of one model and target, and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_edgeai.descriptors import FrameworkDescriptor, TargetDescriptor
from pytest_edgeai.errors import ModelError, UserError, unknown_word
from pytest_edgeai.plan.compatibility import (
    CONVERT,
    FITS,
    framework_refusal,
    quantized_already,
    scheme_fits,
)
from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.plan.targets import (
    framework_order,
    framework_proxy_reason,
    proxy_reason,
    system_name,
)
from pytest_edgeai.records import Artifact, HostFacts, ModelFacts, Recipe, RuntimeOptions
from pytest_edgeai.specification import BASELINES, ModelSpec

PRIMARY = "primary"
ALL = "all"
NATIVE_FRAMEWORKS: Mapping[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Model format to the framework that it is deployed with today. The others are weights without a
runtime of their own: what is deployed today is full precision in the candidate's framework."""
CONVERTED_FORMATS = frozenset({"huggingface"})
"""Formats that every framework converts before it runs them."""

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
        proxy_reason: why speed that is measured here says nothing about the target: the host is
            not of its kind, or the framework computes otherwise here; empty where it counts.
        baseline_recipe: the conversion at full precision that makes the baseline; ``None`` where
            the model's own file is run.
        reference: the promoted artifact that stands in the baseline's place, run by
            ``baseline_framework``; ``None`` for the baseline itself.
        runtime: how it runs where a search found more than a recipe; its threads are the baseline's
            too. ``None``: as the session says.
        batch: samples per call of it and its baseline where a search found another number;
            ``None``: as the model's table says.
    """

    model: ModelSpec
    target: TargetDescriptor
    recipe: Recipe
    node: str
    baseline_framework: str
    unavailable: str
    demanded: bool
    proxy_reason: str
    baseline_recipe: Recipe | None = None
    reference: Artifact | None = None
    runtime: RuntimeOptions | None = None
    batch: int | None = None

    @property
    def counterpart(self) -> str:
        """What the candidate is compared with, in words."""
        return "baseline" if self.reference is None else "promoted artifact"

    def threads(self, stated: int) -> int:
        """Return its threads and its baseline's while they are compared: its own, or ``stated``."""
        return self.runtime.threads if self.runtime is not None else stated

    @property
    def comparison(self) -> str:
        """Name of what is compared within the model: the recipe, and with what if not the baseline.

        Candidates of several targets share it where they share what is measured.
        """
        if self.reference is None:
            return self.recipe.id
        return f"{self.recipe.id}/against-{self.reference.sha256[:12]}"


@dataclass(frozen=True)
class Choice:
    """The candidates of one model and target with the path that led to them.

    Attributes:
        candidates: in order of preference.
        path: one sentence per decision.
    """

    candidates: tuple[PlannedCandidate, ...]
    path: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a choice depends on beside the model and the target.

    Attributes:
        frameworks: every known framework.
        requested: ``("primary",)``, ``("all",)`` or framework names.
        choose_recipes: asked first, unless the manifest lists recipes; ``None`` for the defaults.
        missing: says why a framework cannot run here.
        host: the machine that measures.
        name_target: whether ids must name the target.
        only_listed: whether a requested framework counts only where the target lists it.
    """

    frameworks: Mapping[str, FrameworkDescriptor]
    requested: Sequence[str]
    choose_recipes: ChooseRecipes
    missing: Missing
    host: HostFacts
    name_target: bool = False
    only_listed: bool = False


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
    model: ModelSpec, facts: ModelFacts, target: TargetDescriptor, around: Surroundings
) -> Choice:
    """Return the candidates of ``model`` for ``target``.

    Raises:
        ModelError: the framework that the manifest names for the baseline cannot run the model.
    """
    _check_baseline(model, facts, around.frameworks)
    by_name = around.requested[0] not in (PRIMARY, ALL)
    order = framework_order(target, model.task, facts.parameters)
    candidates: list[PlannedCandidate] = []
    path = list(_first_words(model, facts, target, order))
    host_reason = proxy_reason(target, around.host)
    for name in _asked(model, order, around):
        framework = around.frameworks.get(name)
        if framework is None:
            path.append(f"{name}: not part of this installation")
            continue
        refusal = framework_refusal(facts, framework, model.task)
        recipes, told = ((), "") if refusal else _recipes(model, facts, framework, target, around)
        if not recipes:
            path.append(f"{name}: {refusal or told}")
            continue
        why_missing = _why_missing(model, facts, framework, around)
        reasons = (host_reason, framework_proxy_reason(framework, target, around.host))
        fits = scheme_fits(facts, framework, model.task)
        for recipe in recipes:
            candidates.append(
                PlannedCandidate(
                    model=model,
                    target=target,
                    recipe=recipe,
                    node=f"{recipe.id}@{target.name}" if around.name_target else recipe.id,
                    baseline_framework=baseline_framework(model, facts, name),
                    unavailable=why_missing,
                    demanded=by_name,
                    proxy_reason="; ".join(reason for reason in reasons if reason),
                    baseline_recipe=baseline_recipe(model, facts, name),
                )
            )
            but = fits.get(recipe.scheme, FITS).reason
            why = "; but ".join(part for part in (recipe.reason, but) if part)
            path.append(f"{recipe.id}: {why_missing or why}")
        if around.requested[0] == PRIMARY and not why_missing:
            break
    return Choice(tuple(candidates), tuple(path))


def baseline_framework(model: ModelSpec, facts: ModelFacts, framework: str) -> str:
    """Return the framework that runs the baseline beside a candidate of ``framework``."""
    native, same = BASELINES
    if model.baseline == native:
        return NATIVE_FRAMEWORKS.get(facts.format, framework)
    return framework if model.baseline == same else model.baseline


def baseline_recipe(model: ModelSpec, facts: ModelFacts, framework: str) -> Recipe | None:
    """Return the conversion that makes the baseline; ``None`` where the model's file is run.

    A file that a framework runs as it is stays as it is, a GGUF file in llama.cpp above all. Where
    the manifest asks for the candidate's own framework, an ONNX or OpenVINO model is converted too,
    so that the baseline went the way of the candidate.
    """
    name = baseline_framework(model, facts, framework)
    asked_same = model.baseline == BASELINES[1] and facts.format in NATIVE_FRAMEWORKS
    if facts.format in CONVERTED_FORMATS or asked_same:
        return Recipe(name, CONVERT, reason="the baseline at full precision")
    return None


def _first_words(
    model: ModelSpec, facts: ModelFacts, target: TargetDescriptor, order: Sequence[str]
) -> Iterator[str]:
    """Yield what decides before any framework is asked."""
    already = quantized_already(facts)
    if already:
        yield f"the model: its weights are {already}"
    if tuple(order) != framework_order(target, model.task, 0):
        billions = facts.parameters / 1e9
        yield f"the model: {billions:.3g} billion parameters, so that {order[0]} is asked first"


def _asked(model: ModelSpec, order: Sequence[str], around: Surroundings) -> list[str]:
    """Return the frameworks to ask, in order."""
    if around.requested[0] not in (PRIMARY, ALL):
        return [name for name in around.requested if not around.only_listed or name in order]
    if model.recipes is None:
        return list(order)
    listed = list(dict.fromkeys(recipe.framework for recipe in model.recipes))
    return [name for name in order if name in listed] + [
        name for name in listed if name not in order
    ]


def _recipes(
    model: ModelSpec,
    facts: ModelFacts,
    framework: FrameworkDescriptor,
    target: TargetDescriptor,
    around: Surroundings,
) -> tuple[tuple[Recipe, ...], str]:
    """Return the recipes of a framework, or none and why."""
    none = "has no recipe for this model"
    if model.recipes is not None:
        listed = tuple(recipe for recipe in model.recipes if recipe.framework == framework.name)
        return listed, "the manifest lists no recipe of it"
    chosen = around.choose_recipes(model, facts, framework.name, target.name)
    if chosen is not None:
        return tuple(chosen), none
    fits = scheme_fits(facts, framework, model.task)
    calibrated = model.calibration is not None
    preferred = [
        recipe
        for recipe in default_recipes(framework.name, facts.architecture, calibrated=calibrated)
        if recipe.scheme in framework.schemes
    ] or [Recipe(framework.name, scheme, reason="its only default") for scheme in list(fits)[:1]]
    # Sorting keeps the order of the defaults among those that the target treats alike.
    for recipe in sorted(preferred, key=lambda each: each.scheme not in target.preferred_schemes):
        if fits.get(recipe.scheme, FITS).possible:
            if recipe != preferred[0] and recipe.scheme in target.preferred_schemes:
                recipe = replace(recipe, reason=f"{target.title} calls for {recipe.scheme}")
            return (recipe,), ""
    reasons = dict.fromkeys(fits.get(recipe.scheme, FITS).reason for recipe in preferred)
    return (), "; ".join(reasons) or none


def _why_missing(
    model: ModelSpec, facts: ModelFacts, framework: FrameworkDescriptor, around: Surroundings
) -> str:
    """Return why candidates of a framework cannot be made or compared here; empty if they can."""
    for name in (framework.name, baseline_framework(model, facts, framework.name)):
        descriptor = around.frameworks.get(name)
        wrong = wrong_system(descriptor, around.host) if descriptor else ""
        reason = wrong or around.missing(name)
        if reason:
            return reason
    return ""


def wrong_system(framework: FrameworkDescriptor, host: HostFacts) -> str:
    """Return why a framework does not run on the host's system; empty where it does."""
    system = system_name(host)
    if not framework.systems or system in framework.systems:
        return ""
    allowed = " and ".join(framework.systems)
    return f"{framework.name} does not run on {system or 'this system'}, only on {allowed}"


def _check_baseline(
    model: ModelSpec, facts: ModelFacts, frameworks: Mapping[str, FrameworkDescriptor]
) -> None:
    """Refuse a framework that the manifest names for the baseline and that cannot run the model."""
    if model.baseline in BASELINES or model.baseline not in frameworks:
        return
    refusal = framework_refusal(facts, frameworks[model.baseline], model.task)
    if refusal:
        able = [
            name
            for name, framework in frameworks.items()
            if not framework_refusal(facts, framework, model.task)
        ]
        raise ModelError(
            f'"{model.baseline}" {refusal}',
            where=f"{model.where} baseline",
            allowed=", ".join((*BASELINES, *able)),
        )


def lacks_calibration(candidate: PlannedCandidate) -> bool:
    """Return whether the recipe needs calibration data that the manifest does not name."""
    return candidate.recipe.scheme in NEEDS_CALIBRATION and candidate.model.calibration is None
