"""The shipped catalogue, and how plugins add to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from pytest_edgeai.descriptors import (
    FrameworkDescriptor,
    GateDescriptor,
    MetricDescriptor,
    TargetDescriptor,
)
from pytest_edgeai.errors import UserError
from pytest_edgeai.judge.artifact import MINIMUM_QUANTIZED_RATIO
from pytest_edgeai.judge.limits import (
    LATENCY_DRIFT_RATIO,
    LATENCY_TAIL_RATIO,
    MEMORY_GROWTH_BYTES,
)
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.shipped_production import PRODUCTION_GATES
from pytest_edgeai.specification import Catalogue
from pytest_edgeai.tasks import GENERATION_TASKS, TASKS

_TESTS = "pytest_edgeai.gates"
_DECIDING = "pytest_edgeai.deciding"
_AGAINST = "pytest_edgeai.against_deciding"
_LANGUAGE = "pytest_edgeai.language_deciding"
_STABILITY = "pytest_edgeai.stability_deciding"
_ENERGY = "pytest_edgeai.energy_deciding"
NO_WORSE_RATIO = 0.9
"""Baseline time / candidate time: reading is bound by computing, which quantizing weights hardly
speeds up on a CPU, so the default asks that it gets no worse by more than a tenth."""
HIGHEST_SLICE_RATIO = 0.99
"""From 1 on a class or slice would have to gain, which few samples cannot show."""

GATES: Mapping[str, GateDescriptor] = {
    gate.name: gate
    for gate in (
        GateDescriptor(
            "accuracy_retained",
            f"{_TESTS}.test_accuracy_retained:test_accuracy_retained",
            f"{_DECIDING}:decide_accuracy_retained",
            "more_than",
            0.95,
            "ratio",
            "keeps more than 95% of the baseline's metric",
            lowest=0.0,
            highest=1.0,
            settings={
                "cosine_p5": "what the 5th percentile of an embedding's cosine must exceed",
                "recall_neighbors": "k of an embedding's recall@k, 10 by default",
            },
            setting_ranges={"cosine_p5": (0.0, 1.0)},
            whole_settings=("recall_neighbors",),
        ),
        GateDescriptor(
            "slice_retained",
            f"{_TESTS}.test_slice_retained:test_slice_retained",
            f"{_DECIDING}:decide_slice_retained",
            "more_than",
            0.50,
            "ratio",
            "keeps more than half of the baseline's recall on every class and slice",
            positive=True,
            highest=HIGHEST_SLICE_RATIO,
            tasks=tuple(task for task in TASKS if task not in GENERATION_TASKS),
        ),
        GateDescriptor(
            "speedup",
            f"{_TESTS}.test_speedup:test_speedup",
            f"{_DECIDING}:decide_speedup",
            "at_least",
            2.0,
            "ratio",
            "answers at least twice as fast as the baseline",
            measures_speed=True,
            positive=True,
        ),
        GateDescriptor(
            "prefill",
            f"{_TESTS}.test_prefill:test_prefill",
            f"{_LANGUAGE}:decide_prefill",
            "at_least",
            NO_WORSE_RATIO,
            "ratio",
            "reads a text no more than a tenth slower than the baseline",
            measures_speed=True,
            positive=True,
            tasks=GENERATION_TASKS,
        ),
        GateDescriptor(
            "time_to_first_token",
            f"{_TESTS}.test_time_to_first_token:test_time_to_first_token",
            f"{_LANGUAGE}:decide_time_to_first_token",
            "at_least",
            NO_WORSE_RATIO,
            "ratio",
            "answers a prompt no more than a tenth later than the baseline",
            measures_speed=True,
            positive=True,
            tasks=GENERATION_TASKS,
        ),
        GateDescriptor(
            "token_agreement",
            f"{_TESTS}.test_token_agreement:test_token_agreement",
            f"{_LANGUAGE}:decide_token_agreement",
            "at_least",
            None,
            "share",
            "chooses the same token as the baseline often enough",
            only_with_limit=True,
            lowest=0.0,
            highest=1.0,
            tasks=GENERATION_TASKS,
        ),
        GateDescriptor(
            "kl_divergence",
            f"{_TESTS}.test_kl_divergence:test_kl_divergence",
            f"{_LANGUAGE}:decide_kl_divergence",
            "at_most",
            None,
            "nats",
            "predicts close to the baseline",
            only_with_limit=True,
            positive=True,
            tasks=GENERATION_TASKS,
        ),
        GateDescriptor(
            "memory_cut",
            f"{_TESTS}.test_memory_cut:test_memory_cut",
            f"{_DECIDING}:decide_memory_cut",
            "at_least",
            0.50,
            "ratio",
            "takes at most half of the baseline's memory",
            highest=1.0,
        ),
        GateDescriptor(
            "memory_footprint",
            f"{_TESTS}.test_memory_footprint:test_memory_footprint",
            f"{_DECIDING}:decide_memory_footprint",
            "at_most",
            None,
            "bytes",
            "its process stays within an absolute limit",
            only_with_limit=True,
            positive=True,
        ),
        GateDescriptor(
            "artifact_size",
            f"{_TESTS}.test_artifact_size:test_artifact_size",
            f"{_DECIDING}:decide_artifact_size",
            "at_most",
            None,
            "bytes",
            "its files stay within a limit",
            positive=True,
        ),
        GateDescriptor(
            "latency_consistency",
            f"{_TESTS}.test_latency_consistency:test_latency_consistency",
            f"{_DECIDING}:decide_latency_consistency",
            "at_most",
            1.10,
            "ratio",
            "its slowest answers are no slower than the baseline's",
            measures_speed=True,
            positive=True,
            settings={
                "latency_p50_limit_ms": "absolute limit of the median",
                "latency_p95_limit_ms": "absolute limit of the 95th percentile",
                "latency_p99_limit_ms": "absolute limit of the 99th percentile",
                "latency_consistency_percentile": "the percentile that is compared, 95 by default",
            },
            setting_ranges={"latency_consistency_percentile": (50.0, 100.0)},
        ),
        GateDescriptor(
            "latency_tail",
            f"{_TESTS}.test_latency_tail:test_latency_tail",
            f"{_STABILITY}:decide_latency_tail",
            "at_most",
            LATENCY_TAIL_RATIO,
            "share",
            "takes more than twice its median no more often than the baseline, to 1 call in 250",
            measures_speed=True,
            positive=True,
            highest=1.0,
        ),
        GateDescriptor(
            "latency_drift",
            f"{_TESTS}.test_latency_drift:test_latency_drift",
            f"{_STABILITY}:decide_latency_drift",
            "at_most",
            LATENCY_DRIFT_RATIO,
            "ratio",
            "gets no slower the longer it runs, by the baseline beside it",
            measures_speed=True,
            positive=True,
        ),
        GateDescriptor(
            "memory_growth",
            f"{_TESTS}.test_memory_growth:test_memory_growth",
            f"{_STABILITY}:decide_memory_growth",
            "at_most",
            float(MEMORY_GROWTH_BYTES),
            "bytes",
            "holds at most 1 MiB more with every 1,000 calls",
            positive=True,
        ),
        GateDescriptor(
            "energy_retained",
            f"{_TESTS}.test_energy_retained:test_energy_retained",
            f"{_ENERGY}:decide_energy_retained",
            "at_most",
            None,
            "ratio",
            "takes no more than a share of the baseline's energy per inference",
            measures_speed=True,
            only_with_limit=True,
            positive=True,
            settings={"energy_watts_per_core": "power of a core, for an estimate without counters"},
        ),
        GateDescriptor(
            "output_sanity",
            f"{_TESTS}.test_output_sanity:test_output_sanity",
            f"{_DECIDING}:decide_output_sanity",
            "at_most",
            0.0,
            "faults",
            "no NaN, no broken contract, no class lost",
            lowest=0.0,
            highest=0.0,
        ),
        GateDescriptor(
            "precision_proof",
            f"{_TESTS}.test_precision_proof:test_precision_proof",
            f"{_DECIDING}:decide_precision_proof",
            "at_least",
            MINIMUM_QUANTIZED_RATIO,
            "share",
            "its weights are of the claimed precision and it runs on the claimed device",
            lowest=0.0,
            highest=1.0,
        ),
        GateDescriptor(
            "no_slower",
            f"{_TESTS}.test_no_slower:test_no_slower",
            f"{_AGAINST}:decide_no_slower",
            "at_least",
            0.95,
            "ratio",
            "answers at most a twentieth slower than what was promoted before",
            measures_speed=True,
            positive=True,
            only_against=True,
        ),
        GateDescriptor(
            "no_less_accurate",
            f"{_TESTS}.test_no_less_accurate:test_no_less_accurate",
            f"{_AGAINST}:decide_no_less_accurate",
            "more_than",
            0.98,
            "ratio",
            "keeps more than 98% of the metric of what was promoted before",
            lowest=0.0,
            highest=1.0,
            only_against=True,
        ),
        *PRODUCTION_GATES,
    )
}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


D = TypeVar("D", bound=_Named)


def _merge(
    shipped: Mapping[str, D], added: Iterable[Any], kind: type[Any], hook: str
) -> dict[str, D]:
    merged = dict(shipped)
    for contribution in added:
        for descriptor in contribution or ():
            if not isinstance(descriptor, kind):
                raise UserError(
                    f"returned {type(descriptor).__name__}",
                    where=hook,
                    allowed=f"a list of {kind.__name__}",
                )
            merged[descriptor.name] = descriptor
    return merged


def catalogue(hook: Any) -> Catalogue:
    """Return the shipped catalogue with what plugins add; ``hook`` is pytest's hook relay.

    Raises:
        UserError: a hook returned something else than descriptors.
    """
    return Catalogue(
        frameworks=_merge(
            FRAMEWORKS,
            hook.pytest_edgeai_frameworks(),
            FrameworkDescriptor,
            "pytest_edgeai_frameworks",
        ),
        targets=_merge(
            TARGETS, hook.pytest_edgeai_targets(), TargetDescriptor, "pytest_edgeai_targets"
        ),
        metrics=_merge(
            METRICS, hook.pytest_edgeai_metrics(), MetricDescriptor, "pytest_edgeai_metrics"
        ),
        gates=_merge(GATES, hook.pytest_edgeai_gates(), GateDescriptor, "pytest_edgeai_gates"),
    )
