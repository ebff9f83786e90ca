"""edgeai.toml, or ``[tool.edgeai]`` in pyproject.toml, as records."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_edgeai.configuration import check_manifest_settings
from pytest_edgeai.errors import ModelError, UserError, did_you_mean, unknown_word
from pytest_edgeai.files import expand_home
from pytest_edgeai.licenses import check_licenses
from pytest_edgeai.model_tables import read_gates, read_model_table
from pytest_edgeai.records import JSON
from pytest_edgeai.search_table import read_search
from pytest_edgeai.specification import (
    Catalogue,
    KnownFailure,
    Manifest,
    ModelSpec,
    Production,
)
from pytest_edgeai.tables import Table, read_toml
from pytest_edgeai.tasks import CORRUPTIONS
from pytest_edgeai.thresholds import SWITCHED_OFF, unknown_gate

MANIFEST_NAME = "edgeai.toml"
PYPROJECT_NAME = "pyproject.toml"
PRODUCTION_KEYS = (
    "required",
    "allowed_licenses",
    "allowed_operators",
    "corruptions",
    "advisories",
)


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
    top.refuse_unknown(
        ("models", "gates", "known_failures", "frameworks", "settings", "production", "search")
    )
    directory = path.parent
    settings = top.table("settings")
    raw_settings = {key: settings.raw(key) for key in settings}
    check_manifest_settings(raw_settings, settings.where)
    gates = read_gates(top.table("gates"), catalogue)
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
                read_model_table(
                    name, models_table.raw(name), directory, models_table.place(name), catalogue
                )
            )
        except ModelError as error:
            problems[name] = error
    if problems and len(names) == 1:
        raise next(iter(problems.values()))
    production = None
    if "production" in top:
        production = _read_production(top, catalogue, models, directory)
    _refuse_contradictions(production, gates, models)
    if production is not None:
        check_licenses(production, models)
    return Manifest(
        path=path,
        directory=directory,
        models=tuple(models),
        problems=problems,
        gates=gates,
        known_failures=_read_known_failures(top, names, catalogue),
        interpreters=_read_interpreters(top.table("frameworks"), directory, catalogue),
        settings=raw_settings,
        production=production,
        search=read_search(top.table("search"), catalogue),
    )


def _read_production(
    top: Table, catalogue: Catalogue, models: Sequence[ModelSpec], directory: Path
) -> Production:
    table = top.table("production")
    table.refuse_unknown(PRODUCTION_KEYS)
    required = table.texts("required")
    known = [gate.name for gate in catalogue.gates.values() if gate.production]
    for name in required or ():
        if name not in known:
            raise unknown_word("gate of production", name, known, where=f"{table.where} required")
    return Production(
        required=required and tuple(dict.fromkeys(required)),
        allowed_licenses=table.texts("allowed_licenses"),
        allowed_operators=table.texts("allowed_operators"),
        where=table.where,
        corruptions=_read_corruptions(table, {model.task for model in models}),
        advisories=_read_advisories(table, directory),
    )


def _read_advisories(table: Table, directory: Path) -> Path | None:
    text = table.text("advisories")
    if text is None:
        return None
    path = directory / expand_home(text)
    if not path.is_dir() and not (path.suffix == ".zip" and zipfile.is_zipfile(path)):
        raise UserError(
            f'"{text}" is no export of advisories',
            where=f"{table.where} advisories",
            allowed="a .zip file, or a folder, of OSV advisories as JSON",
        )
    return path


def _read_corruptions(table: Table, tasks: Iterable[str]) -> tuple[str, ...] | None:
    """Return the names of corruptions, each of which fits one of the models' tasks."""
    names = table.texts("corruptions")
    where = f"{table.where} corruptions"
    for name in names or ():
        if ":" in name:
            continue
        if name not in CORRUPTIONS:
            raise unknown_word("corruption", name, CORRUPTIONS, where=where)
        if not any(task in CORRUPTIONS[name] for task in tasks):
            fitting = [key for key, of in CORRUPTIONS.items() if any(task in of for task in tasks)]
            raise UserError(
                f'the corruption "{name}" does not fit {", ".join(sorted(tasks))}',
                where=where,
                allowed=", ".join([*fitting, '"package.module:callable"']),
            )
    return names and tuple(dict.fromkeys(names))


def _refuse_contradictions(
    production: Production | None, gates: Mapping[str, JSON], models: Sequence[ModelSpec]
) -> None:
    """Refuse a gate that a promotion requires and that is switched off."""
    tables = [("[gates]", gates), *((f"{model.where} gates", model.gates) for model in models)]
    for name in (production.required if production else None) or ():
        for where, table in tables:
            if table.get(name) is False or table.get(name) == SWITCHED_OFF:
                raise UserError(
                    f'"{name}" is required and switched off in {where}',
                    where=f"{production.where if production else ''} required",
                    allowed="gates that are switched on",
                )


def _read_known_failures(
    top: Table, models: list[str], catalogue: Catalogue
) -> tuple[KnownFailure, ...]:
    failures: list[KnownFailure] = []
    for entry in top.tables("known_failures") or []:
        entry.refuse_unknown(("model", "gate", "reason", "candidate"))
        model = entry.text("model", required=True) or ""
        gate = entry.text("gate", required=True) or ""
        if model not in models:
            raise unknown_word("model", model, models, where=f"{entry.where} model")
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
            raise unknown_word("framework", name, catalogue.frameworks, where=table.where)
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
