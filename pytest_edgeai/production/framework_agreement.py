"""The gate ``framework_agreement``: the unoptimized model in every framework that takes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import EdgeAIError, MeasurementError, NotCertified
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.framework_agreement import (
    GATE,
    judge_framework_agreement,
    samples_needed,
)
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.measure.agreement import Outputs
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.dataset import stage_arrays
from pytest_edgeai.measure.framework_answers import (
    compare_outputs,
    compare_tokens,
    likeliest_tokens,
)
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.plan.compatibility import framework_refusal, quantized_already
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.plan.targets import framework_order, system_name
from pytest_edgeai.production.sampling import chosen_samples, seconds_per_sample
from pytest_edgeai.production_records import FrameworkAnswers
from pytest_edgeai.records import ModelFacts, Recipe, Threshold, Verdict
from pytest_edgeai.workbench import CONVERT, Workbench, place, title

TOLERANCE = "framework_agreement_tolerance"
TOLERANCE_OF_FLOAT32 = 0.01
TOLERANCE_OF_FLOAT16 = 0.05
TOLERANCE_OF_INTEGERS = 0.1
"""Units of the output's spread by which kernels differ that sum in another order: float32 keeps 7
digits and deep models lose three of them; 16-bit weights keep 3; where weights or data are integers
already, one step of quantization more or less is 1/255 of a range, in many places at once."""
MOST_SAMPLES = 300
MOST_SAMPLES_OF_A_RELEASE = 2000
MOST_BLOCKS = 12
BUDGET_S = 15.0
BUDGET_OF_A_RELEASE_S = 120.0
_HALF = ("float16", "bfloat16")

Compare: TypeAlias = Callable[[str, LoadedRunnable], FrameworkAnswers]
"""Asks a loaded model of a framework and compares its answers."""


@dataclass(frozen=True)
class _Others:
    """The other frameworks, by whether they can answer here.

    Attributes:
        installed: names of those that can.
        missing: name to how it is installed, for those that could.
        refused: name to why it never could.
    """

    installed: tuple[str, ...]
    missing: Mapping[str, str]
    refused: Mapping[str, str]


def decide_framework_agreement(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The model's own framework against all others, the candidate's at full precision first."""
    facts = bench.model(candidate.model.name).facts
    reference = candidate.baseline_framework
    others = _others(bench, candidate, facts, reference)
    if not others.installed and not others.missing:
        why = "; ".join(f"{name} {reason}" for name, reason in others.refused.items())
        return make_verdict(
            GATE,
            "not_applicable",
            threshold,
            unit="share",
            reason=f"no framework but {reference} can run this model" + (f": {why}" if why else ""),
        )
    if not others.installed:
        raise NotCertified(
            f"of the frameworks that can run this model only {reference} is installed",
            advice=" or ".join(f"{name}: run {how}" for name, how in others.missing.items()),
        )
    key = (GATE, candidate.model.name, reference, candidate.recipe.framework, repr(threshold.value))
    answers, raw = bench.once(key, lambda: _measure(bench, candidate, threshold, others.installed))
    # Recipes of one framework share the answers, and each keeps them beside its verdict.
    bench.evidence.write_arrays(place(candidate, GATE), raw)
    if not any(len(each.agrees) for each in answers):
        problems = "; ".join(f"{each.framework}: {each.problem}" for each in answers)
        raise NotCertified(f"no other framework answered this model: {problems}")
    is_text = bench.model(candidate.model.name).language is not None
    return judge_framework_agreement(
        answers,
        threshold,
        reference=reference,
        alike="the same likeliest token"
        if is_text
        else f"every output within {_tolerance(bench, candidate, facts):.3g} of its spread",
        available=bench.model(candidate.model.name).samples.count,
    )


def _others(
    bench: Workbench, candidate: PlannedCandidate, facts: ModelFacts, reference: str
) -> _Others:
    """Return the frameworks with a runtime of their own that take the model, the target's first."""
    frameworks = bench.session.catalogue.frameworks
    order = list(framework_order(candidate.target, candidate.model.task, facts.parameters))
    ranked = [candidate.recipe.framework, *order, *frameworks]
    installed: list[str] = []
    missing: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in dict.fromkeys(ranked):
        framework = frameworks.get(name)
        if framework is None or name == reference:
            continue
        reason = _refusal(bench, candidate, facts, framework, frameworks[reference])
        if reason:
            refused[name] = reason
        elif bench.session.installations.missing(name):
            missing[name] = framework.install
        else:
            installed.append(name)
    return _Others(tuple(installed), missing, refused)


def _refusal(
    bench: Workbench,
    candidate: PlannedCandidate,
    facts: ModelFacts,
    framework: FrameworkDescriptor,
    reference: FrameworkDescriptor,
) -> str:
    """Return why a framework cannot answer beside the reference; empty where it can."""
    refusal = framework_refusal(facts, framework, candidate.model.task)
    if refusal:
        return refusal
    if CONVERT not in framework.schemes:
        return "runs no model at full precision"
    # A framework's runtime is the first of its distributions; Olive's is ONNX Runtime's.
    runtimes = {*framework.distributions[:1], *reference.distributions[:1]}
    if runtimes & set(framework.distributions) & set(reference.distributions):
        return f"runs in {reference.name} itself"
    system = system_name(bench.session.host)
    if framework.systems and system not in framework.systems:
        return f"does not run on {system or 'this system'}"
    return ""


def _tolerance(bench: Workbench, candidate: PlannedCandidate, facts: ModelFacts) -> float:
    stated = bench.session.gate_setting(candidate, TOLERANCE)
    if stated is not None:
        return float(stated)
    if quantized_already(facts):
        return TOLERANCE_OF_INTEGERS
    half = sum(facts.weight_elements.get(name, 0) for name in _HALF)
    is_half = half > facts.weight_elements.get("float32", 0)
    return TOLERANCE_OF_FLOAT16 if is_half else TOLERANCE_OF_FLOAT32


def _measure(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold, names: Sequence[str]
) -> tuple[tuple[FrameworkAnswers, ...], dict[str, NDArray[Any]]]:
    own = candidate.recipe.framework
    is_language = bench.model(candidate.model.name).language is not None
    if is_language:
        # Each conversion of a language model takes minutes and gigabytes: one witness has to do.
        names = names[:1]
    counting = {own} if own in names else set(names)
    # What has to be made is made before the machine is held.
    runnables: dict[str, Runnable | EdgeAIError] = {}
    for name in names:
        try:
            runnables[name] = _runnable(bench, candidate, name)
        except EdgeAIError as error:
            if name == own:
                raise
            runnables[name] = error
    folder = bench.scratch / candidate.model.name / GATE
    raw: dict[str, NDArray[Any]] = {}
    with bench.heavy(title(candidate)):
        try:
            compare = (
                _compare_text(bench, candidate, raw)
                if is_language
                else _compare_tensors(bench, candidate, threshold, len(names), folder, raw)
            )
            found = tuple(
                _ask(bench, candidate, name, runnables[name], compare, counts=name in counting)
                for name in names
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for each in found:
        raw[f"{each.framework}.agrees"] = each.agrees
        if each.blocks is not None:
            raw[f"{each.framework}.blocks"] = each.blocks
    return found, raw


def _runnable(bench: Workbench, candidate: PlannedCandidate, name: str) -> Runnable:
    """Return the unoptimized model as a framework runs it, converted at full precision."""
    bench.progress.step(title(candidate), f"converting the unoptimized model for {name}")
    artifact = bench.converted(replace(candidate, recipe=Recipe(name, CONVERT)))
    framework = bench.session.catalogue.frameworks[name]
    return Runnable(framework, bench.session.interpreter(name), artifact.path, bench.runtime(name))


def _ask(
    bench: Workbench,
    candidate: PlannedCandidate,
    name: str,
    runnable: Runnable | EdgeAIError,
    compare: Compare,
    *,
    counts: bool,
) -> FrameworkAnswers:
    """Return how a framework answers; one that does not answer says why."""
    try:
        if isinstance(runnable, EdgeAIError):
            raise runnable
        bench.progress.step(title(candidate), f"asking {name} the same samples")
        loaded = bench.load(candidate.model.name, runnable)
        try:
            return replace(compare(name, loaded), counts=counts)
        finally:
            loaded.close()
    except EdgeAIError as error:
        what = " ".join(getattr(error, "what", str(error)).split())
        return FrameworkAnswers(name, counts, np.zeros(0, np.bool_), {}, problem=what)


def _compare_tensors(
    bench: Workbench,
    candidate: PlannedCandidate,
    threshold: Threshold,
    frameworks: int,
    folder: Path,
    raw: dict[str, NDArray[Any]],
) -> Compare:
    """Answer samples with the model's own framework; return what compares another with it."""
    model = bench.model(candidate.model.name)
    reference = bench.loaded_baseline(candidate)
    count = _sample_count(bench, candidate, threshold, frameworks, reference)
    chosen = chosen_samples(model.samples.count, count)
    raw["sample"] = chosen
    arrays = {name: array[chosen] for name, array in model.evaluation.arrays.items()}
    samples = Samples(stage_arrays(arrays, folder / "inputs"), count, model.samples.batching)

    def answer(loaded: LoadedRunnable, name: str) -> Outputs:
        outputs, _ = loaded.evaluate(folder / name, lambda what, done: None, samples)
        return outputs

    bench.progress.step(title(candidate), f"answering {count} samples at full precision")
    own = answer(reference, "reference")
    tolerance = _tolerance(bench, candidate, model.facts)

    def compare(name: str, loaded: LoadedRunnable) -> FrameworkAnswers:
        found, apart = compare_outputs(
            name,
            own,
            answer(loaded, name),
            tolerance,
            task=candidate.model.task,
            selected=candidate.model.output,
        )
        raw.update({f"{name}.{output}": values for output, values in apart.items()})
        return found

    return compare


def _compare_text(
    bench: Workbench, candidate: PlannedCandidate, raw: dict[str, NDArray[Any]]
) -> Compare:
    """Let the model's own framework predict text; return what compares another with it."""
    plan = bench.model(candidate.model.name).language
    reference = bench.loaded_baseline(candidate)
    if plan is None or not isinstance(reference, LoadedLanguageRunnable):
        raise MeasurementError("the model was not loaded as a language model")
    chosen = chosen_samples(plan.blocks, min(MOST_BLOCKS, plan.blocks))
    raw["sample"] = chosen
    own = likeliest_tokens(reference, chosen.tolist())

    def compare(name: str, loaded: LoadedRunnable) -> FrameworkAnswers:
        assert isinstance(loaded, LoadedLanguageRunnable)
        return compare_tokens(name, own, likeliest_tokens(loaded, chosen.tolist()))

    return compare


def _sample_count(
    bench: Workbench,
    candidate: PlannedCandidate,
    threshold: Threshold,
    frameworks: int,
    reference: LoadedRunnable,
) -> int:
    """Return how many samples are asked about: what proves the limit, more where time allows."""
    settings, available = bench.session.settings, bench.model(candidate.model.name).samples.count
    is_long = settings.profile == RELEASE
    most = MOST_SAMPLES_OF_A_RELEASE if is_long else MOST_SAMPLES
    budget_s = BUDGET_OF_A_RELEASE_S if is_long else min(BUDGET_S, settings.budget)
    one_s = seconds_per_sample(bench, candidate, reference) * (frameworks + 1)
    needed = samples_needed(threshold.value or 0.0) or available
    # A proof may take longer than the rest, within the budget that every measurement has.
    proof = min(needed, int(max(budget_s, settings.budget) / one_s))
    return max(1, min(available, max(proof, min(most, int(budget_s / one_s)))))
