"""The frozen records that flow from the manifest to the report, and their JSON form.

Units stand in the names: ``_ns`` nanoseconds, ``_s`` seconds, ``_bytes`` bytes, ``_ratio`` a plain
quotient. Arrays are NumPy arrays whose dtype and shape each field states.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from pytest_edgeai.facts import (
    Accelerator,
    Architecture,
    HostFacts,
    LanguageModelFacts,
    ModelFacts,
    ModelFormat,
    TensorSpec,
)
from pytest_edgeai.samples import (
    LEFT_OUT,
    PART_TURNS,
    BoolArray,
    Int64Array,
    LatencySummary,
    MemorySamples,
    OutputSanity,
    PairedQuality,
    PairedTimings,
    StabilitySamples,
    TokenComparison,
    TurnSamples,
)

__all__ = [
    "JSON",
    "LEFT_OUT",
    "PART_TURNS",
    "PROMOTABLE_OUTCOMES",
    "Accelerator",
    "Architecture",
    "Artifact",
    "BoolArray",
    "HostFacts",
    "Int64Array",
    "LanguageModelFacts",
    "LatencySummary",
    "MemorySamples",
    "ModelFacts",
    "ModelFormat",
    "Outcome",
    "OutputSanity",
    "PairedQuality",
    "PairedTimings",
    "PrecisionFacts",
    "Recipe",
    "Relation",
    "RuntimeOptions",
    "StabilitySamples",
    "Stage",
    "TensorSpec",
    "Threshold",
    "TokenComparison",
    "TurnSamples",
    "Verdict",
    "artifact_root",
    "to_json",
]

JSON: TypeAlias = Any

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive", "proxy", "not_applicable", "error"]
Relation: TypeAlias = Literal["more_than", "at_least", "at_most"]

PROMOTABLE_OUTCOMES: frozenset[Outcome] = frozenset({"pass", "not_applicable"})


@dataclass(frozen=True)
class Recipe:
    """One way to make a candidate: a framework, a scheme and its options.

    Attributes:
        framework: name of the framework.
        scheme: what is done to the weights and activations, e.g. ``int8-static``.
        options: options of the scheme, as plain JSON values.
        label: distinguishes recipes of the same framework and scheme; empty by default.
        reason: why this recipe was planned, for the reader of the plan.
    """

    framework: str
    scheme: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    label: str = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """Stable name of the candidate that this recipe makes: ``openvino-int8-static``."""
        return "-".join(part for part in (self.framework, self.scheme, self.label) if part)


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime executes an artifact.

    Attributes:
        threads: threads inside one operator; 0 leaves the choice to the runtime.
        device: the runtime's own device name (``CPU``, ``GPU`` ...).
        hints: runtime properties passed through as they are.
    """

    threads: int = 1
    device: str = "CPU"
    hints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """One optimized model on disk.

    Attributes:
        path: what the framework loads: a file, whose companions lie beside it, or a folder.
        files: every file of the artifact.
        framework: the framework that runs it.
        claimed_precision: the precision its scheme promises (``int8``, ``float32`` ...).
        sha256: hex digest over the names and bytes of ``files``.
        size_bytes: sum over ``files``.
        key: content address: hex digest over model bytes, recipe, calibration bytes, versions.
        from_cache: whether this session found it in the cache.
        seconds: how long making it took.
        versions: distribution name to version of every tool that made it.
        log: what the framework reported while making it, one line each.
    """

    path: Path
    files: tuple[Path, ...]
    framework: str
    claimed_precision: str
    sha256: str
    size_bytes: int
    key: str
    from_cache: bool
    seconds: float
    versions: Mapping[str, str]
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrecisionFacts:
    """What an artifact and its runtime really contain and execute.

    Attributes:
        weight_elements: dtype name to number of weight elements stored on disk.
        quantized_operators: operators (by type) that compute on quantized weights or activations,
            as the artifact declares them.
        executed_precisions: precision name to number of executed operators, as the *runtime*
            reports it after compiling; empty where the runtime cannot tell.
        claimed_device: the device that was asked for.
        executed_devices: the devices that the runtime says it executes on.
        left_out_elements: weight elements of 16 bits and more in layers that the recipe names as
            those to leave alone.
    """

    weight_elements: Mapping[str, int]
    quantized_operators: Mapping[str, int]
    executed_precisions: Mapping[str, int]
    claimed_device: str
    executed_devices: tuple[str, ...]
    left_out_elements: int = 0


@dataclass(frozen=True)
class Stage:
    """One step on the way from the baseline to what ships.

    Attributes:
        name: ``baseline``, ``converted``, ``quantized`` or ``accelerated``.
        framework: the framework that ran it.
        runtime: how it was run.
        latency: its latency.
        size_bytes: size of the model that was run.
        metric: name of the metric.
        score: the metric over the evaluation data, see :func:`pytest_edgeai.judge.score.score`;
            ``None`` where it was not evaluated.
        memory_bytes: model memory, median of the repeats; ``None`` where it was not measured.
        steady_bytes: what is left of it after the runs; likewise, and where there is no counter.
    """

    name: Literal["baseline", "converted", "quantized", "accelerated"]
    framework: str
    runtime: RuntimeOptions
    latency: LatencySummary
    size_bytes: int
    metric: str
    score: float | None
    memory_bytes: int | None
    steady_bytes: int | None = None


@dataclass(frozen=True)
class Threshold:
    """The limit of a gate, and where it was set.

    Attributes:
        value: the limit; ``None`` where the gate has none.
        relation: how the observed value must stand to it.
        origin: ``default``, ``edgeai.toml``, ``--edge-threshold``, ``marker`` ...
    """

    value: float | None
    relation: Relation
    origin: str = "default"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one gate for one candidate.

    Attributes:
        gate: name of the gate.
        outcome: what was decided.
        observed: point estimate of what the gate judges; ``None`` where nothing was observed.
        interval: lower and upper bound of ``observed``; an open side is ``None``.
        confidence: two-sided confidence of ``interval``.
        threshold: the limit; ``None`` where the gate has none.
        relation: how ``observed`` must stand to ``threshold``.
        threshold_origin: where the limit was set.
        unit: ``ratio``, ``bytes``, ``ns``, ``classes`` ...
        samples: number of independent observations behind the verdict.
        reason: why, in one plain sentence.
        advice: what the user can do next; empty after a pass.
        details: further figures for the report, as plain JSON values.
    """

    gate: str
    outcome: Outcome
    observed: float | None
    interval: tuple[float | None, float | None] | None
    confidence: float | None
    threshold: float | None
    relation: Relation
    unit: str
    samples: int
    reason: str
    advice: str = ""
    threshold_origin: str = "default"
    details: Mapping[str, JSON] = field(default_factory=dict)


def artifact_root(path: Path) -> Path:
    """Return the folder of an artifact: what is loaded is one file of it, or the folder itself."""
    return path if path.is_dir() else path.parent


_PLAIN = frozenset({str, int, bool, type(None)})


def to_json(value: Any) -> JSON:
    """Return ``value`` as plain JSON types: paths as POSIX strings, arrays as lists, NaN as null.

    Raises:
        TypeError: for a value that has no JSON form.
    """
    # Most of what is nested is plain already, and the questions below take longer than the answer.
    if type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [to_json(item) for item in items]
    if isinstance(value, np.ndarray):
        return [to_json(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    raise TypeError(f"no JSON form for {type(value).__name__}")
