"""What the rules of advice look at: one candidate with everything that was measured of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.profile_records import Bottleneck, BottleneckName, CandidateProfile
from pytest_edgeai.records import (
    JSON,
    HostFacts,
    MemorySamples,
    ModelFacts,
    Outcome,
    OutputSanity,
    PrecisionFacts,
    Recipe,
    Stage,
    Verdict,
)
from pytest_edgeai.sensitivity_records import Sensitivity

SPEED_GATES = ("speedup", "prefill", "time_to_first_token", "no_slower")
LATENCY_GATES = ("latency_consistency", "latency_tail")
QUALITY_GATES = (
    "accuracy_retained",
    "slice_retained",
    "output_sanity",
    "no_less_accurate",
    "token_agreement",
    "kl_divergence",
)
MEMORY_GATES = ("memory_cut", "memory_footprint", "artifact_size")
PRECISION_GATE = "precision_proof"
CONVOLUTIONS = ("Conv", "ConvTranspose", "Convolution", "GroupConvolution")
EXCLUSIONS = ("nodes_to_exclude", "ignored_names", "ignored_types", "ignored_patterns")
"""Options that leave layers at full precision; they hold for another scheme as well."""

_BITS = re.compile(r"\d+")
"""The first number in a dtype's name, ``float32``, ``int8`` or ``q4_k``, is its bits."""
_NOT_WEIGHTS = frozenset({"int32", "uint32", "int64", "uint64"})

Schemes: TypeAlias = Mapping[str, tuple[str, ...] | None]
"""Scheme to the names of its options; ``None``: it takes any."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration data of a model.

    Attributes:
        samples: how many there are.
        source: as the manifest names it.
        calls_used: calls that the recipe calibrates with; ``None`` where it does not.
        calls_available: calls that the data make.
        not_finite: elements that are NaN or infinite; ``None`` where nobody looked.
        outlier_ratio: largest magnitude divided by the 99th percentile of the magnitudes, of the
            input where that is largest; ``None`` likewise, and for integers.
    """

    samples: int
    source: str
    calls_used: int | None = None
    calls_available: int | None = None
    not_finite: int | None = None
    outlier_ratio: float | None = None


@dataclass(frozen=True, eq=False)
class Situation:
    """One candidate, as far as it was measured; what is missing was not.

    Attributes:
        model: name of the model in the manifest.
        task: Hugging Face task name.
        recipe: how the candidate is made.
        host: the machine that measured.
        facts: what the baseline's file says.
        verdicts: gate name to what was decided.
        usable: framework name to its schemes that can be made of this model here.
        listed: ids of the recipes that the manifest lists.
        taken: ids that no other recipe may have, those included.
        claimed_precision: what the scheme promises; empty where no artifact was made.
        precision: what the artifact holds and its runtime executes.
        artifact_bytes: its files.
        log: what the framework said while making it.
        versions: distribution to version of what made it.
        profile: where the time goes.
        stages: stage name to the stage.
        memory: memory of both sides.
        sanity: what the outputs look like.
        sensitivity: how harmful each layer is.
        calibration: the calibration data; ``None`` where the manifest names none.
        evaluation_samples: samples of the evaluation data.
        data_source: the evaluation data as the manifest names it.
        samples_per_call: samples that one call takes.
        batch_is_open: whether the model leaves that to the manifest.
        threads: threads of both models while they are compared; 0: as the runtimes choose.
        clock: which clock decides on speed.
        budget_s: measuring time per gate.
        context_length: tokens that a language model is measured with.
        baseline_framework: what runs the baseline.
        multiplies_int8: whether the CPU multiplies and adds INT8 in one step; ``None``: not known.
        accelerated_by: framework name to the vendors of accelerators that it computes on.
        layer_option: the option that leaves layers alone; empty where the scheme has none.
        is_profiled: whether the session looked into where the time goes.
    """

    model: str
    task: str
    recipe: Recipe
    host: HostFacts
    facts: ModelFacts
    verdicts: Mapping[str, Verdict]
    usable: Mapping[str, Schemes] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    claimed_precision: str = ""
    precision: PrecisionFacts | None = None
    artifact_bytes: int | None = None
    log: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    profile: CandidateProfile | None = None
    stages: Mapping[str, Stage] = field(default_factory=dict)
    memory: MemorySamples | None = None
    sanity: OutputSanity | None = None
    sensitivity: Sensitivity | None = None
    calibration: Calibration | None = None
    evaluation_samples: int | None = None
    data_source: str = ""
    samples_per_call: int = 1
    batch_is_open: bool = False
    threads: int = 1
    clock: str = "agree"
    budget_s: float = 60.0
    context_length: int | None = None
    baseline_framework: str = ""
    multiplies_int8: bool | None = None
    accelerated_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layer_option: str = ""

    def outcome(self, gate: str) -> Outcome | None:
        """Return what was decided about a gate, or would have been on a host of the right kind."""
        verdict = self.verdicts.get(gate)
        if verdict is None:
            return None
        if verdict.outcome == "proxy":
            told: Outcome = verdict.details.get("outcome_on_proxy", "proxy")
            return told
        return verdict.outcome

    def failed(self, *gates: str) -> tuple[Verdict, ...]:
        """Return the verdicts of those of the gates that failed."""
        return tuple(self.verdicts[gate] for gate in gates if self.outcome(gate) == "fail")

    def undecided(self, *gates: str) -> tuple[Verdict, ...]:
        """Return the verdicts of those of the gates that were inconclusive."""
        return tuple(self.verdicts[gate] for gate in gates if self.outcome(gate) == "inconclusive")

    @property
    def schemes(self) -> Schemes:
        """Schemes of the candidate's own framework that can be made of the model."""
        return self.usable.get(self.recipe.framework, {})

    @property
    def is_static(self) -> bool:
        """Whether the recipe finds the ranges of activations in calibration data."""
        return self.recipe.scheme in ("int8-static", "int8-search")

    @property
    def is_weights_only(self) -> bool:
        """Whether the scheme leaves activations at full precision by design."""
        return self.recipe.scheme in ("int8-weights", "int4-weights")

    def limits(self, *names: BottleneckName) -> Bottleneck | None:
        """Return what limits the candidate, if it is one of ``names``; ``None`` otherwise.

        A contended machine hides what limits the model itself, which is then looked at instead.
        """
        found = self.profile.candidate_bottleneck if self.profile is not None else None
        if found is None:
            return None
        is_hidden = found.name == "contended" and "contended" not in names
        return found if (found.beneath if is_hidden else found.name) in names else None

    def count(self, *operators: str) -> int:
        """Return how many operators of these types the baseline has."""
        return sum(self.facts.operators.get(name, 0) for name in operators)

    def has(self, framework: str, scheme: str, *options: str) -> bool:
        """Return whether a scheme can be made of this model here, with these options."""
        schemes = self.usable.get(framework, {})
        if scheme not in schemes:
            return False
        known = schemes[scheme]
        return known is None or all(option in known for option in options)

    def with_options(self, word: str, **options: JSON) -> Recipe | None:
        """Return the recipe with other options; ``None`` where its scheme does not know them.

        Args:
            word: what its label gets; labels tell recipes of one scheme apart.
            options: those that change; ``None`` leaves one out.
        """
        recipe = self.recipe
        changed = {**recipe.options, **options}
        kept = {name: value for name, value in changed.items() if value is not None}
        named = [name for name, value in options.items() if value is not None]
        if not self.has(recipe.framework, recipe.scheme, *named):
            return None
        return self._named(replace(recipe, options=kept, reason=""), word)

    def with_scheme(self, scheme: str, framework: str = "", **options: JSON) -> Recipe | None:
        """Return the recipe with another scheme; ``None`` where that cannot be made here.

        Layers that were kept at full precision stay so where the scheme can do that.
        """
        framework = framework or self.recipe.framework
        if not self.has(framework, scheme, *options):
            return None
        kept = {}
        if framework == self.recipe.framework:
            kept = {
                name: value
                for name, value in self.recipe.options.items()
                if name in EXCLUSIONS and self.has(framework, scheme, name)
            }
        return self._named(Recipe(framework, scheme, {**kept, **options}), "")

    def _named(self, recipe: Recipe, word: str) -> Recipe:
        """Return the recipe with a label that no other recipe of the manifest has."""
        if word and word not in recipe.label.split("+"):
            recipe = replace(recipe, label="-".join(part for part in (recipe.label, word) if part))
        label, number = recipe.label, 2
        while recipe.id in (*self.taken, self.recipe.id):
            recipe = replace(recipe, label=f"{label}-{number}" if label else f"fix-{number - 1}")
            number += 1
        return recipe

    def weight_bytes(self) -> dict[str, float]:
        """Return dtype name to bytes of weights in the artifact; empty where nobody counted.

        Scales of blocks are left out, and integers of 32 bits and more, which are no weights.
        """
        counts = self.precision.weight_elements if self.precision is not None else {}
        found = {}
        for name, count in counts.items():
            bits = _BITS.search(name)
            if bits is not None and count > 0 and name not in _NOT_WEIGHTS:
                found[name] = count * int(bits[0]) / 8
        return found


Decide: TypeAlias = Callable[[Situation], Advice | None]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: its name.
        summary: when it speaks and what it says, in one sentence.
        decide: returns its advice, or ``None``; without its measurement it returns ``None``.
        needs: what it must have been given besides verdicts, in words; empty for nothing.
    """

    name: str
    summary: str
    decide: Decide
    needs: str = ""


def own_reason(found: Bottleneck) -> str:
    """Return why a bottleneck limits the model itself, without what other processes took."""
    hidden = f"it is {found.beneath}: "
    return found.reason.partition(hidden)[2] or found.reason


def names(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return the names of the gates."""
    return tuple(verdict.gate for verdict in verdicts)


def figures(verdicts: Sequence[Verdict]) -> dict[str, JSON]:
    """Return what the gates observed, as evidence."""
    return {
        verdict.gate: {"observed": verdict.observed, "threshold": verdict.threshold}
        for verdict in verdicts
    }
