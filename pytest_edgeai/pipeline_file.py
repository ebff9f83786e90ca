"""An ``edge_ai_pipeline`` file of YAML: read, and checked against the keys that it may have."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import UserError, unknown_word

INSTALL = 'pip install "pytest-edgeai[pipelines]"'
TOP = "edge_ai_pipeline"
STAGES = (
    "model_validation",
    "optimization",
    "testing",
    "staging_deployment",
    "production_deployment",
    "monitoring",
)
SWITCHES = (
    "model_validation.performance_baseline",
    "model_validation.security_scan",
    "optimization.validation.cross_validation",
    "optimization.validation.performance_comparison",
    "testing.unit_tests",
    "testing.integration_tests",
    "testing.load_tests",
    "testing.security_tests",
)
WORDS = (
    "deployment.strategy",
    "deployment.traffic_ramping",
    "deployment.rollback",
    "deployment.monitoring",
)
SHARE = "model_validation.accuracy_threshold"
FRAMEWORKS = "optimization.frameworks"
KEYS = ("stages", SHARE, FRAMEWORKS, *SWITCHES, *WORDS)
_ON = ("enabled", "required", "yes", "on", "true")
_OFF = ("disabled", "optional", "no", "off", "false")
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Pipeline:
    """What a file says, by the path of each key that it has.

    Attributes:
        switches: whether each is on.
        words: what each is, in lower case and with ``_`` for ``-``.
        stages: their names, in order; empty where the file names none.
        frameworks: their names as written; empty where the file names none.
        accuracy: the threshold; ``None`` where there is none.
    """

    switches: Mapping[str, bool]
    words: Mapping[str, str]
    stages: tuple[str, ...]
    frameworks: tuple[str, ...]
    accuracy: float | None


def read_pipeline(path: Path) -> Pipeline:
    """Return what a pipeline file says.

    Raises:
        UserError: it cannot be read, is no YAML, or holds a key or a value that it may not; PyYAML
            is not installed.
    """
    where = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=where) from None
    if len(content) > _LARGEST_BYTES:
        raise UserError("is too large for a pipeline", where=where, allowed="at most 1 MiB")
    top = _mapping(_parse(content, where), where)
    _refuse_unknown(top, (TOP,), where)
    if TOP not in top:
        raise UserError(f'"{TOP}" is missing', where=where, allowed=f"a file with {TOP}:")
    values = _flatten(_mapping(top[TOP], f"{where} {TOP}"), "", where)
    return Pipeline(
        switches={key: _switch(values[key], key, where) for key in SWITCHES if key in values},
        words={key: _word(values[key], key, where) for key in WORDS if key in values},
        stages=_names(values, "stages", where, known=STAGES),
        frameworks=_names(values, FRAMEWORKS, where),
        accuracy=_share(values[SHARE], where) if SHARE in values else None,
    )


def _parse(content: bytes, where: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise UserError(
            "a pipeline file needs the package PyYAML", advice=f"run: {INSTALL}"
        ) from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Plain values alone, and no key twice: the last would win without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'the key "{key.value}" stands there twice', key.start_mark
                    )
                if isinstance(key.value, str):
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(content, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        if "another document" in problem:
            problem = "a second document begins with ---; a file holds one pipeline"
        raise UserError(f"not valid YAML: {problem}", where=where + line) from None
    except (RecursionError, ValueError, TypeError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"not valid YAML: {reason}", where=where) from None


def _flatten(table: Mapping[str, Any], prefix: str, where: str) -> dict[str, Any]:
    """Return the values by the whole path of their keys, none of them unknown."""
    inner = [key.removeprefix(prefix) for key in KEYS if key.startswith(prefix)]
    known = list(dict.fromkeys(key.split(".")[0] for key in inner))
    _refuse_unknown(table, known, f"{where} {TOP}.{prefix}".rstrip("."))
    values: dict[str, Any] = {}
    for key, value in table.items():
        path = prefix + key
        if path in KEYS:
            values[path] = value
        else:
            table = _listed(value, f"{where} {TOP}.{path}")
            values |= _flatten(table, f"{path}.", where)
    return values


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{_kind(value)} where a table is needed", where=where, allowed="keys with their values"
        )
    return value


def _listed(value: Any, where: str) -> Mapping[str, Any]:
    """Return a table; a list of words is one of keys without values."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return _mapping(value, where)
    for each in value:
        if value.count(each) > 1:
            raise UserError(f'"{each}" stands there twice', where=where)
    return dict.fromkeys(value)


def _refuse_unknown(table: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise unknown_word("key", str(key), known, where=where)


def _wrong(value: Any, key: str, where: str, allowed: str) -> UserError:
    shown = f' "{value}"' if isinstance(value, str | int | float) else ""
    return UserError(
        f"{_kind(value)}{shown} cannot be used", where=f"{where} {TOP}.{key}", allowed=allowed
    )


def _switch(value: Any, key: str, where: str) -> bool:
    if value is None:
        # It is named, and so it is asked for: {unit_tests, load_tests}.
        return True
    if isinstance(value, bool):
        return value
    if value in _ON or value in _OFF:
        return value in _ON
    raise _wrong(value, key, where, "enabled, required or true; disabled, optional or false")


def _word(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(value, key, where, "a word")
    return value.strip().lower().replace("-", "_")


def _share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _wrong(value, SHARE, where, "a number above 0, at most 1")
    return float(value)


def _names(
    values: Mapping[str, Any], key: str, where: str, known: Sequence[str] = ()
) -> tuple[str, ...]:
    if key not in values:
        return ()
    value = values[key]
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(each, str) and each for each in value)
    ):
        raise _wrong(value, key, where, "a list of words such as [one, other]")
    for each in value:
        if known and each not in known:
            raise unknown_word("stage", each, known, where=f"{where} {TOP}.{key}")
    return tuple(dict.fromkeys(value))


def _kind(value: Any) -> str:
    kinds = {bool: "true/false", int: "a number", float: "a number", str: "a word", list: "a list"}
    if isinstance(value, Mapping):
        return "a table"
    return "nothing" if value is None else kinds.get(type(value), type(value).__name__)
