"""A manifest as records: what the user wrote, checked, and nothing that was looked up since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_edgeai.descriptors import (
    FrameworkDescriptor,
    GateDescriptor,
    MetricDescriptor,
    TargetDescriptor,
)
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import JSON, Recipe
from pytest_edgeai.search_records import DEFAULT_WEIGHTS

BASELINES = ("native", "same-framework")
TEXT_SUFFIX = ".txt"
DEPLOYMENTS = ("ios", "android")
"""What a model can ship in on a phone; ``plan.targets`` knows how much each may weigh."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that a manifest may name."""

    frameworks: Mapping[str, FrameworkDescriptor]
    targets: Mapping[str, TargetDescriptor]
    metrics: Mapping[str, MetricDescriptor]
    gates: Mapping[str, GateDescriptor]


@dataclass(frozen=True)
class DataSource:
    """Where samples come from: a ``.npz`` file or a callable that returns the same arrays.

    Attributes:
        path: the ``.npz`` file, or the text file of a language model; ``None`` for a callable.
        reference: ``"package.module:callable"``; ``None`` for a file.
        where: the manifest's key, for errors.
    """

    path: Path | None
    reference: str | None
    where: str


@dataclass(frozen=True)
class Part:
    """A stated part of evaluation data, which a digest of each sample decides about.

    Attributes:
        role: ``selection`` for what chooses between candidates, ``evaluation`` for the rest, which
            the gates judge by.
        share: share of the selection, between 0 and 1.
    """

    role: Literal["selection", "evaluation"]
    share: float


@dataclass(frozen=True)
class ModelSpec:
    """One ``[models.NAME]`` table.

    Attributes:
        name: its name.
        path: the baseline's file.
        task: Hugging Face task name.
        data: evaluation data.
        calibration: calibration data; ``None`` where there is none.
        metric: name of a metric or ``"package.module:callable"``.
        baseline: ``native``, ``same-framework`` or a framework's name.
        targets: names of the targets it is gated for; ``None`` for every target.
        gates: thresholds of its own.
        recipes: recipes that replace the default ones; ``None`` for the defaults.
        output: the output that the metric reads; ``None`` where the model has only one that fits.
        classes: class names in the order of the output's columns; ``None`` for integer labels.
        batch: samples per call where the model leaves it open.
        where: the table's place, for errors.
        deployment: what the model ships in on a phone (``ios``, ``android``); empty: not stated.
        slices: arrays of the evaluation data that divide it; ``None``: ``slices``, if there is one.
        license: SPDX expression of the model's licence; empty: not declared.
        data_license: SPDX expression of its training data's licence; empty: not declared.
        license_file: the licence's text, which a promotion copies; ``None`` for none.
        card: what the model card says beside what was measured, by section.
        traffic: recorded requests that both models answer in the shadow gate.
        members: samples that the model was trained on, for the membership-inference gate.
        selection: samples that a search chooses by; ``None`` where there are none of their own.
        part: the part of ``data`` that is taken; ``None`` for all of it.
    """

    name: str
    path: Path
    task: str
    data: DataSource
    calibration: DataSource | None
    metric: str
    baseline: str
    targets: tuple[str, ...] | None
    gates: Mapping[str, JSON]
    recipes: tuple[Recipe, ...] | None
    output: str | None
    classes: tuple[str, ...] | None
    batch: int
    where: str
    context_length: int | None = None
    prompt_tokens: int | None = None
    deployment: str = ""
    slices: tuple[str, ...] | None = None
    license: str = ""
    data_license: str = ""
    license_file: Path | None = None
    card: Mapping[str, str] = field(default_factory=dict)
    traffic: DataSource | None = None
    members: DataSource | None = None
    selection: DataSource | None = None
    part: Part | None = None

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """Everything that samples of it come from."""
        stated = (self.data, self.calibration, self.traffic, self.members, self.selection)
        return tuple(source for source in stated if source is not None)


@dataclass(frozen=True)
class KnownFailure:
    """A gate that is known to fail."""

    model: str
    gate: str
    reason: str
    candidate: str | None = None


@dataclass(frozen=True)
class Production:
    """The ``[production]`` table.

    Attributes:
        required: gates of production that a promotion needs; ``None``: every one that runs.
        allowed_licenses: SPDX identifiers that a licence may name; ``None``: the default list.
        allowed_operators: operators that an artifact may hold; ``None``: any that is not custom.
        where: the table's place, for errors.
        corruptions: those of the gate ``robustness``, by name or ``"package.module:callable"``;
            ``None``: every one that fits the task.
        advisories: a local export of OSV advisories, a ZIP file or a folder; ``None``: those of the
            package index.
    """

    required: tuple[str, ...] | None
    allowed_licenses: tuple[str, ...] | None
    allowed_operators: tuple[str, ...] | None
    where: str
    corruptions: tuple[str, ...] | None = None
    advisories: Path | None = None


SearchObjective = Literal["speedup", "accuracy_retained", "memory_cut", "pareto"]


@dataclass(frozen=True)
class Search:
    """The ``[search]`` table.

    Attributes:
        time_box_s: longest time of the search for one model and target.
        storage: URL of the study's storage, with its credentials; empty: a SQLite file below the
            cache directory.
        study: name of the study; empty: an address of everything that the search depends on.
        objective: what is maximized under the gates' thresholds; ``pareto`` keeps the frontier.
        finalists: how many candidates meet the full gates at most.
        weights: objective name to what it counts for where one candidate is recommended.
        selection_share: share of the evaluation data that chooses between candidates, and that the
            gates leave out, where a model has no selection data of its own.
        frameworks: frameworks that are searched; empty: those of ``--edge-framework``.
        space: dimension name to the values that are tried; others keep their own.
        hints: framework name to its runtime hints, each with the values that are tried; a framework
            that is not named keeps its own.
        where: the table's place, for errors.
    """

    time_box_s: float = 900.0
    storage: str = ""
    study: str = ""
    objective: SearchObjective = "pareto"
    finalists: int = 3
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    selection_share: float = 0.2
    frameworks: tuple[str, ...] = ()
    space: Mapping[str, tuple[JSON, ...]] = field(default_factory=dict)
    hints: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    where: str = "[search]"


@dataclass(frozen=True)
class Manifest:
    """A whole manifest.

    Attributes:
        path: the file.
        directory: where its relative paths start.
        models: the usable models, in order.
        problems: model name to the error that keeps it from being used.
        gates: the ``[gates]`` table.
        known_failures: gates that are known to fail.
        interpreters: framework name to the Python that runs it.
        settings: the ``[settings]`` table.
        production: the ``[production]`` table; ``None`` where there is none.
        search: the ``[search]`` table, or its defaults.
    """

    path: Path
    directory: Path
    models: tuple[ModelSpec, ...]
    problems: Mapping[str, ModelError]
    gates: Mapping[str, JSON]
    known_failures: tuple[KnownFailure, ...]
    interpreters: Mapping[str, Path]
    settings: Mapping[str, JSON] = field(default_factory=dict)
    production: Production | None = None
    search: Search = field(default_factory=Search)
