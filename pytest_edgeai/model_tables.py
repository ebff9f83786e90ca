"""Read one ``[models.NAME]`` table, with errors that name the key and what is allowed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import ModelError, UserError, did_you_mean, unknown_word
from pytest_edgeai.files import expand_home
from pytest_edgeai.records import JSON, Recipe
from pytest_edgeai.specification import (
    BASELINES,
    DEPLOYMENTS,
    TEXT_SUFFIX,
    Catalogue,
    DataSource,
    ModelSpec,
)
from pytest_edgeai.tables import Table
from pytest_edgeai.tasks import GENERATION_TASKS, TASKS
from pytest_edgeai.thresholds import LARGEST, parse_limit

MOST_SAMPLES_PER_CALL = 65536
_NAME = re.compile(r"\w[\w.-]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
MOST_TOKENS = 1 << 20
MOST_LICENSE_BYTES = 1 << 20
RESERVED_ARRAYS = ("labels", "classes")
LANGUAGE_KEYS = ("context_length", "prompt_tokens")
MODEL_KEYS = (
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
    "deployment",
    "slices",
    "license",
    "data_license",
    "license_file",
    "card",
    "traffic",
    "members",
    "selection",
    *LANGUAGE_KEYS,
)


def read_model_table(
    name: str, raw: Any, directory: Path, place: str, catalogue: Catalogue
) -> ModelSpec:
    """Read and check one model's table.

    Args:
        name: the model's name.
        raw: the table as TOML has it.
        directory: where relative paths start.
        place: the table's place, for errors.
        catalogue: what the table may name.

    Raises:
        ModelError: names the key, what is wrong and what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f'"{name}" cannot name a model', where=place, allowed="letters, digits, _ . and -"
        )
    table = Table(raw, place, error=ModelError)
    table.refuse_unknown(MODEL_KEYS)
    task = table.text("task", required=True) or ""
    if task not in TASKS:
        raise ModelError(
            f'unknown task "{task}"',
            where=f"{place} task",
            allowed="Hugging Face task names such as image-classification",
            advice=did_you_mean(task, TASKS),
        )
    generates = task in GENERATION_TASKS
    for key in LANGUAGE_KEYS:
        if key in table and not generates:
            raise ModelError(
                f'task "{task}" takes no {key}',
                where=f"{place} {key}",
                allowed=f"only with task {', '.join(GENERATION_TASKS)}",
            )
    return ModelSpec(
        name=name,
        path=_existing(directory, table.text("path", required=True) or "", f"{place} path"),
        task=task,
        data=_read_source(
            directory, table.text("data", required=True) or "", f"{place} data", text=generates
        ),
        calibration=_read_optional_source("calibration", table, directory, place, text=generates),
        metric=_read_metric(table, task, place, catalogue),
        baseline=_one_of(table, "baseline", BASELINES[0], (*BASELINES, *catalogue.frameworks)),
        targets=_read_targets(table, place, catalogue),
        gates=read_gates(table.table("gates"), catalogue),
        recipes=_read_recipes(table, catalogue),
        output=table.text("output"),
        classes=_read_classes(table),
        batch=table.count("batch", most=MOST_SAMPLES_PER_CALL) or 1,
        where=place,
        context_length=table.count("context_length", most=MOST_TOKENS),
        prompt_tokens=table.count("prompt_tokens", most=MOST_TOKENS),
        deployment=_one_of(table, "deployment", "", DEPLOYMENTS),
        slices=_read_slices(table, task),
        license=table.text("license") or "",
        data_license=table.text("data_license") or "",
        license_file=_read_license_file(table, directory),
        card=_read_card(table.table("card")),
        traffic=_read_optional_source("traffic", table, directory, place, text=generates),
        members=_read_optional_source("members", table, directory, place, text=generates),
        selection=_read_optional_source("selection", table, directory, place, text=generates),
    )


def _read_license_file(table: Table, directory: Path) -> Path | None:
    name = table.text("license_file")
    if name is None:
        return None
    where = f"{table.where} license_file"
    path = _existing(directory, name, where)
    allowed = f"a UTF-8 text of at most {MOST_LICENSE_BYTES >> 20} MiB"
    try:
        if path.stat().st_size > MOST_LICENSE_BYTES:
            raise ModelError(f'"{name}" is too large', where=where, allowed=allowed)
        path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ModelError(f'"{name}" is not a text', where=where, allowed=allowed) from None
    return path


def _read_card(table: Table) -> dict[str, str]:
    return {key: table.text(key, required=True) or "" for key in table}


def _read_slices(table: Table, task: str) -> tuple[str, ...] | None:
    names = table.texts("slices")
    where = f"{table.where} slices"
    if names is not None and task in GENERATION_TASKS:
        raise ModelError(
            f'task "{task}" takes no slices',
            where=where,
            allowed=f"not with task {', '.join(GENERATION_TASKS)}",
        )
    for index, name in enumerate(names or ()):
        if name in RESERVED_ARRAYS or (names and name in names[:index]):
            what = "cannot divide the samples" if name in RESERVED_ARRAYS else "is named twice"
            raise ModelError(
                f'"{name}" {what}',
                where=where,
                allowed="different arrays of the data, beside the inputs, labels and classes",
            )
    return names


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


def _read_source(directory: Path, name: str, where: str, *, text: bool) -> DataSource:
    if _REFERENCE.fullmatch(name):
        return DataSource(None, name, where)
    path = _existing(directory, name, where)
    suffixes = (".npz", TEXT_SUFFIX) if text else (".npz",)
    if path.suffix not in suffixes or not path.is_file():
        raise ModelError(
            f'"{name}" is not a data file',
            where=where,
            allowed=f'a {" or ".join(suffixes)} file, or "package.module:callable"',
        )
    return DataSource(path, None, where)


def _read_optional_source(
    key: str, table: Table, directory: Path, place: str, *, text: bool
) -> DataSource | None:
    name = table.text(key)
    if name is None:
        return None
    return _read_source(directory, name, f"{place} {key}", text=text)


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
    if value not in (*allowed, default):
        raise unknown_word(key, value, allowed, where=f"{table.where} {key}", error=ModelError)
    return value


def _read_targets(table: Table, place: str, catalogue: Catalogue) -> tuple[str, ...] | None:
    targets = table.texts("targets")
    for target in targets or ():
        if target not in catalogue.targets:
            raise unknown_word(
                "target", target, catalogue.targets, where=f"{place} targets", error=ModelError
            )
    return targets


def read_gates(table: Table, catalogue: Catalogue) -> dict[str, JSON]:
    """Read and check a ``[gates]`` table; the values stay as TOML has them.

    Raises:
        UserError: an unknown gate, or a limit or setting that it cannot have.
    """
    values: dict[str, JSON] = {}
    extra = {key: gate for gate in catalogue.gates.values() for key in gate.settings}
    for key in table:
        raw = table.raw(key)
        where = f"{table.where} {key}"
        if key in catalogue.gates:
            parse_limit(catalogue.gates[key], raw, where)
        elif key in extra and key in extra[key].whole_settings:
            _whole(raw, where)
            if key in extra[key].setting_ranges:
                _between(raw, extra[key].setting_ranges[key], where)
        elif key in extra:
            _between(raw, extra[key].setting_ranges.get(key, (0.0, math.inf)), where)
        else:
            raise unknown_word("key", key, sorted({**catalogue.gates, **extra}), where=table.where)
        values[key] = raw
    return values


def _between(raw: Any, bounds: tuple[float, float], where: str) -> None:
    """Refuse what is no number strictly between ``bounds``."""
    low, high = bounds
    words = f"a number above {low:g}" + (f" and below {high:g}" if high < math.inf else "")
    number = not isinstance(raw, bool) and isinstance(raw, (int, float))
    if not number or not (low < raw <= LARGEST and raw < high):
        allowed = words if high < math.inf else f"a finite number above {low:g}"
        what = "is out of range" if number else "is not a number"
        raise UserError(f"{raw!r} {what}", where=where, allowed=allowed)


def _whole(raw: Any, where: str) -> None:
    """Refuse what is no whole number from 1; TOML's ``10.0`` is one."""
    number = not isinstance(raw, bool) and isinstance(raw, (int, float))
    if not number or not 1 <= raw <= LARGEST or raw != int(raw):
        words = "a whole number, 1 and above"
        raise UserError(f"{raw!r} is not {words}", where=where, allowed=words)


def _read_recipes(table: Table, catalogue: Catalogue) -> tuple[Recipe, ...] | None:
    tables = table.tables("recipes")
    if tables is None:
        return None
    recipes: list[Recipe] = []
    for entry in tables:
        entry.refuse_unknown(("framework", "scheme", "options", "label"))
        name = entry.text("framework", required=True) or ""
        if name not in catalogue.frameworks:
            raise unknown_word(
                "framework",
                name,
                catalogue.frameworks,
                where=f"{entry.where} framework",
                error=ModelError,
            )
        schemes = [scheme for scheme in catalogue.frameworks[name].schemes if scheme != "convert"]
        scheme = entry.text("scheme", required=True) or ""
        if scheme not in schemes:
            raise unknown_word(
                f"{name} scheme", scheme, schemes, where=f"{entry.where} scheme", error=ModelError
            )
        label = entry.text("label") or ""
        if label and not _NAME.fullmatch(label):
            raise ModelError(
                f'"{label}" cannot be a label',
                where=f"{entry.where} label",
                allowed="letters, digits, _ . and -",
            )
        options = entry.table("options")
        known = catalogue.frameworks[name].options.get(scheme)
        if known is not None:
            options.refuse_unknown(known)
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
