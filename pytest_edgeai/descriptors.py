"""What plugins contribute: descriptions with import paths, never live objects.

A descriptor can be created, compared and sent to another interpreter without importing the
framework that it describes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_edgeai.records import Relation
from pytest_edgeai.tasks import GENERATION_TASKS


@dataclass(frozen=True)
class FrameworkDescriptor:
    """One optimization framework.

    Attributes:
        name: as users write it (``openvino``).
        implementation: ``"package.module:Class"`` of a
            :class:`pytest_edgeai.optimize.frameworks.base.Framework`; imported in the worker only.
        install: the exact command that installs what it needs.
        distributions: names of the distributions that must be installed in its interpreter.
        formats: model formats that it takes (``onnx``, ``openvino``).
        schemes: scheme name to the precision that the scheme claims; ``convert`` is full precision.
        cpu_time_is_valid: whether the CPU time of its process says how long a call took.
        versions_of: further distributions whose versions belong to the content address.
        options: scheme name to the names of its options, which the manifest is checked against; a
            scheme that is not listed takes any, and its framework checks them.
        unknown_operators: operators that it cannot run, so that the plan passes on to the next.
        tasks: Hugging Face task names that it serves; empty: every task but text generation.
        systems: operating systems that it runs on, as ``platform.system()`` names them; empty: any.
        proxy_systems: operating system to why its speed there says nothing about the target, e.g.
            because another backend computes; verdicts on speed then read ``proxy``.
        accelerators: vendors of the GPUs, NPUs and TPUs that its worker computes on
            (:class:`~pytest_edgeai.facts.Accelerator`); empty: it computes on the CPU.
        device: the device that candidates run on, in the framework's own words; ``AUTO`` leaves the
            choice to it.
        maps_weights: whether it can map a model's weights from their file; the memory of that is
            then measured too, for the report.
    """

    name: str
    implementation: str
    install: str
    distributions: tuple[str, ...]
    formats: tuple[str, ...]
    schemes: Mapping[str, str]
    cpu_time_is_valid: bool = True
    versions_of: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown_operators: frozenset[str] = frozenset()
    tasks: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    proxy_systems: Mapping[str, str] = field(default_factory=dict)
    accelerators: tuple[str, ...] = ()
    device: str = "CPU"
    maps_weights: bool = False

    def serves(self, task: str) -> bool:
        """Return whether models of a Hugging Face task can be run."""
        return task in self.tasks if self.tasks else task not in GENERATION_TASKS


@dataclass(frozen=True)
class TargetDescriptor:
    """One class of edge hardware.

    Attributes:
        name: as users write it (``intel``).
        title: for people (``Intel CPU/GPU``).
        frameworks: frameworks in order of preference.
        host_vendors: CPU vendors that make a host of this kind; empty: any vendor.
        host_architectures: machine architectures of this kind; empty: any.
        note: what a reader of the plan should know.
        text_frameworks: the order for models that generate text; empty: ``frameworks``.
        large_frameworks: frameworks that are asked first for models of 7 billion parameters and
            more.
        host_systems: operating systems of this kind, as ``platform.system()`` names them; empty:
            any.
        host_accelerators: vendors of the accelerators that make a host of this kind, any one of
            them; empty: it is a kind of CPU, and models run on that.
        artifact_limit_bytes: limit of the gate ``artifact_size`` where nobody sets one; ``None``
            for none.
        preferred_schemes: schemes that it prefers among the defaults of a framework.
    """

    name: str
    title: str
    frameworks: tuple[str, ...]
    host_vendors: tuple[str, ...] = ()
    host_architectures: tuple[str, ...] = ()
    note: str = ""
    text_frameworks: tuple[str, ...] = ()
    large_frameworks: tuple[str, ...] = ()
    host_systems: tuple[str, ...] = ()
    host_accelerators: tuple[str, ...] = ()
    artifact_limit_bytes: int | None = None
    preferred_schemes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricDescriptor:
    """One quality metric, computed per sample or over the whole evaluation data.

    Attributes:
        name: as users write it (``accuracy``).
        implementation: ``"package.module:callable"``, called with ``(outputs, labels)``: output
            name to array, and the labels; returns what ``kind`` says. Empty for ``perplexity``,
            which the workers compute.
        kind: ``proportion`` (0 or 1 per sample, float, shape ``(samples,)``), ``loss`` (likewise,
            non-negative, lower is better), ``corpus`` (one number of the whole set, non-negative,
            higher is better), ``embedding`` (shape ``(samples, features)``) or ``perplexity``.
        tasks: Hugging Face task names that use it by default.
    """

    name: str
    implementation: str
    kind: str = "proportion"
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateDescriptor:
    """One quality gate.

    Attributes:
        name: as users write it (``speedup``).
        test: ``"package.module:function"`` of the test function that is the gate.
        decide: ``"package.module:function"`` called with ``(workbench, candidate, threshold)``;
            returns a :class:`~pytest_edgeai.records.Verdict`.
        relation: how the observed value must stand to the threshold.
        threshold: default limit; ``None`` where the gate has none.
        unit: unit of the observed value.
        measures_speed: whether a proxy host's figure certifies nothing.
        only_with_limit: whether the gate exists only where a limit is set.
        only_against: whether the gate exists only with ``--edge-against``.
        production: whether the gate exists only where ``[production]`` or ``--edge-profile`` asks
            for it.
        needs_key: key of the model's table without which the gate does not exist; empty for none.
        summary: one line for ``--edge-plan`` and the docs.
        settings: further keys of the ``[gates]`` table that the gate reads; numbers above 0.
        setting_ranges: for some of them, the numbers that the value must lie between.
        whole_settings: those of them that are whole numbers, 1 and above.
        tasks: Hugging Face task names that the gate is for; empty: every task.
        positive: whether the limit must be above 0.
        lowest: smallest limit that makes sense.
        highest: largest limit that makes sense.
    """

    name: str
    test: str
    decide: str
    relation: Relation
    threshold: float | None
    unit: str
    summary: str
    measures_speed: bool = False
    only_with_limit: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    positive: bool = False
    lowest: float = -math.inf
    highest: float = math.inf
    tasks: tuple[str, ...] = ()
    only_against: bool = False
    setting_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    whole_settings: tuple[str, ...] = ()
    production: bool = False
    needs_key: str = ""

    def judges(self, task: str) -> bool:
        """Return whether models of a Hugging Face task have to pass the gate."""
        return not self.tasks or task in self.tasks
