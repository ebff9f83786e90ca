"""Read the ``[search]`` table, with errors that name the key and what is allowed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_args

from pytest_edgeai.configuration import Settings
from pytest_edgeai.errors import UserError, unknown_word
from pytest_edgeai.records import JSON
from pytest_edgeai.search_records import DEFAULT_WEIGHTS
from pytest_edgeai.specification import Catalogue, Search, SearchObjective
from pytest_edgeai.tables import Table

SEARCH_KEYS = (
    "time_box_s",
    "storage",
    "study",
    "objective",
    "finalists",
    "weights",
    "selection_share",
    "frameworks",
    "space",
    "hints",
)
OBJECTIVES: tuple[str, ...] = get_args(SearchObjective)
WEIGHTED = (*DEFAULT_WEIGHTS, "energy_retained")
"""Objectives that a weight can be given to."""
SCHEME, THREADS, BATCH = "scheme", "threads", "batch"
MOST_OF = {THREADS: 1024, BATCH: 65536}
"""Whole-number dimensions beside the options of schemes, with the largest value of each."""
MOST_FINALISTS = 64
MOST_VALUES = 64
MOST_SECONDS = 30 * 24 * 3600.0
_STUDY = re.compile(r"[\w][\w.-]{0,99}")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def read_search(table: Table, catalogue: Catalogue) -> Search:
    """Read and check the table; what it leaves out keeps its default.

    Raises:
        UserError: names the key, what is wrong and what is allowed.
    """
    table.refuse_unknown(SEARCH_KEYS)
    plain = Search()
    study = table.text("study") or plain.study
    if study and not _STUDY.fullmatch(study):
        raise UserError(
            f'"{study}" cannot name a study',
            where=f"{table.where} study",
            allowed="up to 100 letters, digits, _ . and -",
        )
    objective = table.text("objective") or plain.objective
    if objective not in OBJECTIVES:
        raise unknown_word("objective", objective, OBJECTIVES, where=f"{table.where} objective")
    return Search(
        time_box_s=_number(table, "time_box_s", plain.time_box_s, 0.0, MOST_SECONDS),
        storage=_storage(table),
        study=study,
        objective=cast("SearchObjective", objective),
        finalists=table.count("finalists", most=MOST_FINALISTS) or plain.finalists,
        weights=_weights(table, plain.weights),
        selection_share=_number(table, "selection_share", plain.selection_share, 0.0, 1.0),
        frameworks=_frameworks(table, catalogue),
        space=_space(table.table("space"), catalogue),
        hints=_hints(table.table("hints"), catalogue),
        where=table.where,
    )


def searched_settings(settings: Settings, table: Search) -> Settings:
    """Return the settings that a session is planned by: the table may name the frameworks.

    What somebody set on the command line, in the environment or in ``[settings]`` stands.
    """
    stated = settings.origins["framework"] != "default"
    if settings.search is None or not table.frameworks or stated:
        return settings
    origins = {**settings.origins, "framework": f"{table.where} frameworks"}
    return replace(settings, framework=table.frameworks, origins=origins)


def _number(table: Table, key: str, default: float, above: float, below: float) -> float:
    if key not in table:
        return default
    value = table.raw(key)
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not number or not above < value < below:
        raise UserError(
            f"{value!r} is no number that can be used",
            where=f"{table.where} {key}",
            allowed=f"a number above {above:g} and below {below:g}",
        )
    return float(value)


def _storage(table: Table) -> str:
    """Return the URL; one variable of the environment may stand for it, so that it stays secret."""
    text = table.text("storage") or ""
    where = f"{table.where} storage"
    variable = _VARIABLE.fullmatch(text.strip())
    if variable:
        name = variable[1] or variable[2]
        text = os.environ.get(name, "")
        if not text:
            raise UserError(
                f"the environment variable {name} is not set", where=where, allowed="a URL in it"
            )
    if text and "://" not in text:
        raise UserError(
            "is no URL of a database",
            where=where,
            allowed='a URL such as "sqlite:///studies.sqlite3" or "postgresql+psycopg://...", or '
            '"$NAME" for an environment variable that holds one',
        )
    return text


def _weights(table: Table, default: Mapping[str, float]) -> Mapping[str, float]:
    if "weights" not in table:
        return default
    inner = table.table("weights")
    weights: dict[str, float] = {}
    for name in inner:
        if name not in WEIGHTED:
            raise unknown_word("objective", name, WEIGHTED, where=inner.where)
        value = inner.raw(name)
        number = not isinstance(value, bool) and isinstance(value, (int, float))
        if not number or not 0 <= value < math.inf:
            raise UserError(
                f"{value!r} is no weight",
                where=f"{inner.where} {name}",
                allowed="a finite number, 0 and above",
            )
        weights[name] = float(value)
    if not any(weights.values()):
        raise UserError(
            "no objective has a weight", where=inner.where, allowed="at least one above 0"
        )
    return weights


def _frameworks(table: Table, catalogue: Catalogue) -> tuple[str, ...]:
    names = table.texts("frameworks") or ()
    for name in names:
        if name not in catalogue.frameworks:
            raise unknown_word(
                "framework", name, catalogue.frameworks, where=f"{table.where} frameworks"
            )
    return tuple(dict.fromkeys(names))


def _space(table: Table, catalogue: Catalogue) -> Mapping[str, tuple[JSON, ...]]:
    options = {
        option
        for framework in catalogue.frameworks.values()
        for names in framework.options.values()
        for option in names
    }
    known = (SCHEME, *MOST_OF, *sorted(options))
    space: dict[str, tuple[JSON, ...]] = {}
    for name in table:
        if name not in known:
            raise unknown_word("dimension", name, known, where=table.where)
        space[name] = _values(table, name)
    schemes = [scheme for each in catalogue.frameworks.values() for scheme in each.schemes]
    for scheme in space.get(SCHEME, ()):
        if scheme not in schemes or scheme == "convert":
            allowed = list(dict.fromkeys(name for name in schemes if name != "convert"))
            raise unknown_word("scheme", str(scheme), allowed, where=f"{table.where} {SCHEME}")
    for name, most in MOST_OF.items():
        for value in space.get(name, ()):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise UserError(
                    f"{value!r} is no number that can be used",
                    where=f"{table.where} {name}",
                    allowed=f"whole numbers from 1 to {most}",
                )
    return space


def _values(table: Table, name: str) -> tuple[JSON, ...]:
    raw: Any = table.raw(name)
    scalar = isinstance(raw, list) and all(
        isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
        for value in raw
    )
    if not scalar or not 1 <= len(raw) <= MOST_VALUES:
        raise UserError(
            "is no list of values",
            where=f"{table.where} {name}",
            allowed=f"a list of 1 to {MOST_VALUES} finite numbers, strings or true/false",
        )
    # True equals 1, and both are values of their own.
    return tuple({(type(value), value): value for value in raw}.values())


def _hints(table: Table, catalogue: Catalogue) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    hints: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for framework in table:
        if framework not in catalogue.frameworks:
            raise unknown_word("framework", framework, catalogue.frameworks, where=table.where)
        inner = table.table(framework)
        hints[framework] = {name: inner.texts(name) or () for name in inner}
    return hints
