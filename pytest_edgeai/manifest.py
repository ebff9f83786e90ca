"""edgeai.toml, or ``[tool.edgeai]`` in pyproject.toml, as records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_edgeai.configuration import check_manifest_settings
from pytest_edgeai.descriptors import (
    FrameworkDescriptor,
    GateDescriptor,
    MetricDescriptor,
    TargetDescriptor,
)
from pytest_edgeai.errors import ModelError, UserError, did_you_mean
from pytest_edgeai.files import expand_home
from pytest_edgeai.records import JSON, Recipe
from pytest_edgeai.tables import Table, read_toml
from pytest_edgeai.tasks import TASKS
from pytest_edgeai.thresholds import LARGEST, parse_limit, unknown_gate

MANIFEST_NAME = "edgeai.toml"
PYPROJECT_NAME = "pyproject.toml"
BASELINES = ("native", "same-framework")
MOST_SAMPLES_PER_CALL = 65536
_NAME = re.compile(r"\w[\w.-]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MODEL_KEYS = (
    "path",
    "task",
    "data",
    "calibration",
    "metric",
    "baseline",
    "targets",
    "gates",
    "recipes",
    "output",
    "classes",
    "batch",
)


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
        path: the ``.npz`` file; ``None`` for a callable.
        reference: ``"package.module:callable"``; ``None`` for a file.
        where: the manifest's key, for errors.
    """

    path: Path | None
    reference: str | None
    where: str


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


@dataclass(frozen=True)
class KnownFailure:
    """A gate that is known to fail."""

    model: str
    gate: str
    reason: str
    candidate: str | None = None


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
    """

    path: Path
    directory: Path
    models: tuple[ModelSpec, ...]
    problems: Mapping[str, ModelError]
    gates: Mapping[str, JSON]
    known_failures: tuple[KnownFailure, ...]
    interpreters: Mapping[str, Path]
    settings: Mapping[str, JSON] = field(default_factory=dict)


def find_manifest(start: Path) -> Path | None:
    """Return the nearest manifest in ``start`` or a directory above it.

    Raises:
        UserError: one directory holds both an ``edgeai.toml`` and a ``[tool.edgeai]`` table.
    """
    for directory in (start, *start.parents):
        own = directory / MANIFEST_NAME
        shared = directory / PYPROJECT_NAME
        in_pyproject = has_edgeai_table(shared)
        if own.is_file() and in_pyproject:
            raise UserError(
                f"both {MANIFEST_NAME} and [tool.edgeai] in {PYPROJECT_NAME}",
                where=str(directory),
                allowed="one of them",
            )
        if own.is_file():
            return own
        if in_pyproject:
            return shared
    return None


def has_edgeai_table(path: Path) -> bool:
    """Return whether a pyproject.toml has a ``[tool.edgeai]`` table; a broken file has none."""
    try:
        if b"edgeai" not in path.read_bytes():
            return False
        tool = read_toml(path).get("tool")
    except (OSError, UserError):
        return False
    return isinstance(tool, Mapping) and "edgeai" in tool


def read_tables(path: Path) -> Table:
    """Return the manifest's top table."""
    raw = read_toml(path)
    if path.name != PYPROJECT_NAME:
        return Table(raw, path.name)
    tool = raw.get("tool", {})
    if not isinstance(tool, Mapping) or "edgeai" not in tool:
        raise UserError("no [tool.edgeai] table", where=str(path))
    return Table(tool["edgeai"], f"{path.name} [tool.edgeai]")


def read_manifest(path: Path, catalogue: Catalogue) -> Manifest:
    """Read and check a manifest; models are checked one by one.

    Raises:
        UserError: the manifest as a whole is wrong, or its only model is.
    """
    top = read_tables(path)
    top.refuse_unknown(("models", "gates", "known_failures", "frameworks", "settings"))
    directory = path.parent
    settings = top.table("settings")
    raw_settings = {key: settings.raw(key) for key in settings}
    check_manifest_settings(raw_settings, settings.where)
    gates = _read_gates(top.table("gates"), catalogue)
    models_table = top.table("models")
    names = list(models_table)
    if not names:
        raise UserError(
            "names no model",
            where=str(path),
            advice="Add a table: [models.NAME] with path, task and data",
        )
    models: list[ModelSpec] = []
    problems: dict[str, ModelError] = {}
    for name in names:
        try:
            models.append(
                _read_model(
                    name, models_table.raw(name), directory, models_table.place(name), catalogue
                )
            )
        except ModelError as error:
            problems[name] = error
    if problems and len(names) == 1:
        raise next(iter(problems.values()))
    return Manifest(
        path=path,
        directory=directory,
        models=tuple(models),
        problems=problems,
        gates=gates,
        known_failures=_read_known_failures(top, names, catalogue),
        interpreters=_read_interpreters(top.table("frameworks"), directory, catalogue),
        settings=raw_settings,
    )


def _read_model(
    name: str, raw: Any, directory: Path, place: str, catalogue: Catalogue
) -> ModelSpec:
    if not _NAME.fullmatch(name):
        raise ModelError(
            f'"{name}" cannot name a model', where=place, allowed="letters, digits, _ . and -"
        )
    table = Table(raw, place, error=ModelError)
    table.refuse_unknown(_MODEL_KEYS)
    task = table.text("task", required=True) or ""
    if task not in TASKS:
        raise ModelError(
            f'unknown task "{task}"',
            where=f"{place} task",
            allowed="Hugging Face task names such as image-classification",
            advice=did_you_mean(task, TASKS),
        )
    return ModelSpec(
        name=name,
        path=_existing(directory, table.text("path", required=True) or "", f"{place} path"),
        task=task,
        data=_read_source(directory, table.text("data", required=True) or "", f"{place} data"),
        calibration=_read_calibration(table, directory, place),
        metric=_read_metric(table, task, place, catalogue),
        baseline=_one_of(table, "baseline", BASELINES[0], (*BASELINES, *catalogue.frameworks)),
        targets=_read_targets(table, place, catalogue),
        gates=_read_gates(table.table("gates"), catalogue),
        recipes=_read_recipes(table, catalogue),
        output=table.text("output"),
        classes=_read_classes(table),
        batch=table.count("batch", most=MOST_SAMPLES_PER_CALL) or 1,
        where=place,
    )


def _read_classes(table: Table) -> tuple[str, ...] | None:
    classes = table.texts("classes")
    for index, name in enumerate(classes or ()):
        if classes and name in classes[:index]:
            raise ModelError(
                f'class "{name}" is named twice',
                where=f"{table.where} classes",
                allowed="one name per column of the output, in order",
            )
    return classes


def _existing(directory: Path, text: str, where: str) -> Path:
    if "\0" in text:
        raise ModelError("a NUL character in a path", where=where)
    path = directory / expand_home(text)
    try:
        found = path.exists()
    except OSError as error:
        raise ModelError(f'"{text}" cannot be used ({error.strerror})', where=where) from None
    if not found:
        raise ModelError(
            f'"{text}" does not exist', where=where, allowed=f"a path from {directory}"
        )
    return path


def _read_source(directory: Path, text: str, where: str) -> DataSource:
    if _REFERENCE.fullmatch(text):
        return DataSource(None, text, where)
    path = _existing(directory, text, where)
    if path.suffix != ".npz" or not path.is_file():
        raise ModelError(
            f'"{text}" is not a data file',
            where=where,
            allowed='a .npz file, or "package.module:callable"',
        )
    return DataSource(path, None, where)


def _read_calibration(table: Table, directory: Path, place: str) -> DataSource | None:
    text = table.text("calibration")
    return None if text is None else _read_source(directory, text, f"{place} calibration")


def _read_metric(table: Table, task: str, place: str, catalogue: Catalogue) -> str:
    metric = table.text("metric")
    if metric is None:
        for descriptor in catalogue.metrics.values():
            if task in descriptor.tasks:
                return descriptor.name
        raise ModelError(
            f'task "{task}" has no default metric',
            where=f"{place} metric",
            allowed=", ".join((*catalogue.metrics, '"package.module:callable"')),
        )
    if metric not in catalogue.metrics and not _REFERENCE.fullmatch(metric):
        raise ModelError(
            f'unknown metric "{metric}"',
            where=f"{place} metric",
            allowed=", ".join((*catalogue.metrics, '"package.module:callable"')),
            advice=did_you_mean(metric, catalogue.metrics),
        )
    return metric


def _one_of(table: Table, key: str, default: str, allowed: tuple[str, ...]) -> str:
    value = table.text(key, default=default) or default
    if value not in allowed:
        raise ModelError(
            f'unknown {key} "{value}"',
            where=f"{table.where} {key}",
            allowed=", ".join(allowed),
            advice=did_you_mean(value, allowed),
        )
    return value


def _read_targets(table: Table, place: str, catalogue: Catalogue) -> tuple[str, ...] | None:
    targets = table.texts("targets")
    for target in targets or ():
        if target not in catalogue.targets:
            raise ModelError(
                f'unknown target "{target}"',
                where=f"{place} targets",
                allowed=", ".join(catalogue.targets),
                advice=did_you_mean(target, catalogue.targets),
            )
    return targets


def _read_gates(table: Table, catalogue: Catalogue) -> dict[str, JSON]:
    values: dict[str, JSON] = {}
    extra = {key: gate for gate in catalogue.gates.values() for key in gate.settings}
    for key in table:
        raw = table.raw(key)
        where = f"{table.where} {key}"
        if key in catalogue.gates:
            parse_limit(catalogue.gates[key], raw, where)
        elif key in extra:
            _positive(raw, where)
        else:
            error = unknown_gate(key, {**catalogue.gates, **extra}, table.where)
            raise type(error)(
                f'unknown key "{key}"',
                where=error.where,
                allowed=error.allowed,
                advice=error.advice,
            )
        values[key] = raw
    return values


def _positive(raw: Any, where: str) -> None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not (0 < raw <= LARGEST):
        raise UserError(
            f"{raw!r} is not a number above 0", where=where, allowed="a finite number above 0"
        )


def _read_recipes(table: Table, catalogue: Catalogue) -> tuple[Recipe, ...] | None:
    tables = table.tables("recipes")
    if tables is None:
        return None
    recipes: list[Recipe] = []
    for entry in tables:
        entry.refuse_unknown(("framework", "scheme", "options", "label"))
        name = entry.text("framework", required=True) or ""
        if name not in catalogue.frameworks:
            raise ModelError(
                f'unknown framework "{name}"',
                where=f"{entry.where} framework",
                allowed=", ".join(catalogue.frameworks),
                advice=did_you_mean(name, catalogue.frameworks),
            )
        schemes = [scheme for scheme in catalogue.frameworks[name].schemes if scheme != "convert"]
        scheme = entry.text("scheme", required=True) or ""
        if scheme not in schemes:
            raise ModelError(
                f'unknown scheme "{scheme}" of {name}',
                where=f"{entry.where} scheme",
                allowed=", ".join(schemes),
                advice=did_you_mean(scheme, schemes),
            )
        label = entry.text("label") or ""
        if label and not _NAME.fullmatch(label):
            raise ModelError(
                f'"{label}" cannot be a label',
                where=f"{entry.where} label",
                allowed="letters, digits, _ . and -",
            )
        options = entry.table("options")
        recipe = Recipe(
            name,
            scheme,
            {key: options.raw(key) for key in options},
            label,
            reason="the manifest's own recipe",
        )
        if recipe.id in {other.id for other in recipes}:
            raise ModelError(
                f'a second recipe named "{recipe.id}"',
                where=entry.where,
                allowed="a label that tells them apart",
            )
        recipes.append(recipe)
    return tuple(recipes)


def _read_known_failures(
    top: Table, models: list[str], catalogue: Catalogue
) -> tuple[KnownFailure, ...]:
    failures: list[KnownFailure] = []
    for entry in top.tables("known_failures") or []:
        entry.refuse_unknown(("model", "gate", "reason", "candidate"))
        model = entry.text("model", required=True) or ""
        gate = entry.text("gate", required=True) or ""
        if model not in models:
            raise UserError(
                f'unknown model "{model}"',
                where=f"{entry.where} model",
                allowed=", ".join(models),
                advice=did_you_mean(model, models),
            )
        if gate not in catalogue.gates:
            raise unknown_gate(gate, catalogue.gates, f"{entry.where} gate")
        reason = entry.text("reason", required=True) or ""
        candidate = entry.text("candidate")
        if candidate is not None and not _names_candidate(candidate, catalogue):
            known = [f"{f.name}-{s}" for f in catalogue.frameworks.values() for s in f.schemes]
            raise UserError(
                f'"{candidate}" names no candidate',
                where=f"{entry.where} candidate",
                allowed="FRAMEWORK-SCHEME or FRAMEWORK-SCHEME-LABEL",
                advice=did_you_mean(candidate, known),
            )
        failures.append(KnownFailure(model, gate, reason, candidate))
    return tuple(failures)


def _names_candidate(text: str, catalogue: Catalogue) -> bool:
    return any(
        text == f"{framework.name}-{scheme}" or text.startswith(f"{framework.name}-{scheme}-")
        for framework in catalogue.frameworks.values()
        for scheme in framework.schemes
    )


def _read_interpreters(table: Table, directory: Path, catalogue: Catalogue) -> dict[str, Path]:
    interpreters: dict[str, Path] = {}
    for name in table:
        if name not in catalogue.frameworks:
            raise UserError(
                f'unknown framework "{name}"',
                where=table.where,
                allowed=", ".join(catalogue.frameworks),
                advice=did_you_mean(name, catalogue.frameworks),
            )
        entry = table.table(name)
        entry.refuse_unknown(("python",))
        text = entry.text("python", required=True) or ""
        path = directory / expand_home(text)
        if not path.is_file():
            raise UserError(
                f'"{text}" does not exist',
                where=f"{entry.where} python",
                allowed="a Python interpreter",
            )
        interpreters[name] = path
    return interpreters
