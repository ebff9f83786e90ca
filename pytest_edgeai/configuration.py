"""Resolve each setting to a typed value and remember who set it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pytest_edgeai.errors import UserError, did_you_mean, unknown_word
from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE, expand_home
from pytest_edgeai.records import JSON
from pytest_edgeai.settings import (
    BY_NAME,
    ENVIRONMENT_PREFIX,
    OPTIONS,
    SIGNING_KEY_VARIABLE,
    Option,
)

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off", ""})
_KEY_MARK = "-----BEGIN"


@dataclass(frozen=True)
class Settings:
    """The settings of one session; see :data:`pytest_edgeai.settings.OPTIONS` for their meaning.

    Attributes:
        origins: setting name to who set it: ``default``, ``edgeai.toml``, a variable or a flag.
    """

    target: tuple[str, ...]
    manifest: Path | None
    model: tuple[str, ...]
    framework: tuple[str, ...]
    budget: float
    inconclusive: Literal["fail", "skip"]
    cache_dir: Path | None
    refresh: bool
    json: Path | None
    junit: Path | None
    markdown: Path | None
    html: Path | None
    promote: Path | None
    signing_key: Path | None
    certificate_days: int
    allow_proxy: bool
    search: int | None
    diagnose: bool
    fix: bool
    fix_budget: float
    plan: bool
    history: bool
    against: Path | Literal["last", "best"] | None
    self_check: bool
    self_check_budget: float
    profile: Literal["ci", "release"]
    threshold: Mapping[str, str]
    threads: int
    across: tuple[str, ...]
    clock: Literal["agree", "cpu-led", "wall-only"]
    carbon_region: str | None
    sysfs: Path | None
    time_limit: float
    origins: Mapping[str, str]

    def where(self, name: str) -> str:
        """Return the place where a setting was set, for errors."""
        return _place(name, self.origins[name])


def resolve(
    command_line: Mapping[str, Any],
    environment: Mapping[str, str],
    manifest: Mapping[str, JSON],
    *,
    manifest_path: Path | None,
    invocation_directory: Path,
) -> Settings:
    """Resolve every setting: command line > environment > manifest > default.

    Args:
        command_line: option destination to value; ``None`` where the flag was not given.
        environment: the process environment.
        manifest: the ``[settings]`` table.
        manifest_path: the file that table stands in; its paths are relative to it.
        invocation_directory: where relative paths of flags and variables start.

    Raises:
        UserError: a value is of the wrong type or range; names its origin and what is allowed.
    """
    _refuse_unknown_variables(environment)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        raw, origin, base = option.default, "default", invocation_directory
        if command_line.get(option.destination) not in (None, [], False):
            raw, origin = command_line[option.destination], option.flag
        elif environment.get(option.variable):
            # An empty variable is how CI systems pass an input that nobody filled in.
            raw, origin = environment[option.variable], option.variable
        elif option.name in manifest and manifest_path is not None:
            raw, origin = manifest[option.name], manifest_path.name
            base = manifest_path.parent
        where = _place(option.name, origin)
        values[option.name] = (
            raw
            if origin == "default" and option.kind != "thresholds"
            else _parse(option, raw, where, base)
        )
        origins[option.name] = origin
    if values["clock"] == "cpu-led" and values["threads"] != 1:
        raise UserError(
            f"cpu-led with {values['threads']} threads: CPU time adds up over threads and is no "
            "duration then",
            where=_place("clock", origins["clock"]),
            allowed="cpu-led with 1 thread, or agree, or wall-only",
        )
    return Settings(**values, origins=origins)


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    beside = (SIGNING_KEY_VARIABLE, LOCK_DIRECTORY_VARIABLE)
    known = [*(option.variable for option in OPTIONS), *beside]
    locks = environment.get(LOCK_DIRECTORY_VARIABLE)
    if locks and not Path(locks).is_dir():
        raise UserError(
            f'"{locks}" is no directory', where=LOCK_DIRECTORY_VARIABLE, allowed="a directory"
        )
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            raise UserError(
                "unknown variable",
                where=name,
                allowed=", ".join(known),
                advice=did_you_mean(name, known),
            )


def check_manifest_settings(table: Mapping[str, JSON], where: str) -> None:
    """Refuse keys under ``[settings]`` that are no settings.

    Args:
        table: the table's raw values.
        where: its place in the manifest, e.g. ``edgeai.toml [settings]``.

    Raises:
        UserError: an unknown key, or one that only the command line can set.
    """
    allowed = sorted(option.name for option in OPTIONS if option.in_manifest)
    for key in table:
        if key not in allowed:
            raise unknown_word("key", key, allowed, where=where)


def _place(name: str, origin: str) -> str:
    if not origin.endswith(".toml"):
        return origin
    table = "[tool.edgeai.settings]" if origin == "pyproject.toml" else "[settings]"
    return f"{origin} {table} {name}"


def _parse(option: Option, raw: Any, where: str, base: Path) -> Any:
    return _PARSERS[option.kind](option, raw, where, base)


def _parse_names(option: Option, raw: Any, where: str, base: Path) -> tuple[str, ...]:
    if isinstance(raw, str):
        raw = [raw]
    if not isinstance(raw, Sequence) or not all(isinstance(item, str) for item in raw):
        raise UserError(f"{raw!r} is not a list of names", where=where, allowed=option.metavar)
    names = tuple(dict.fromkeys(part.strip() for item in raw for part in item.split(",")))
    if not names or not all(names):
        raise UserError("an empty name", where=where, allowed=option.metavar)
    for name in names:
        if option.choices:
            _parse_choice(option, name, where, base)
    return names


def _parse_choice(option: Option, raw: Any, where: str, base: Path) -> str:
    if raw not in option.choices:
        raise UserError(
            f"{raw!r} is not a choice",
            where=where,
            allowed=", ".join(option.choices),
            advice=did_you_mean(str(raw), option.choices),
        )
    return cast("str", raw)


def _parse_path(option: Option, raw: Any, where: str, base: Path) -> Path:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise UserError(f"{raw!r} is not a path", where=where, allowed="a path")
    if _KEY_MARK in raw:
        # Values are printed and written to reports; a key must not be.
        raise UserError("is a key and not the path of one", where=where, allowed="a path")
    path = expand_home(raw)
    if path.parts and path.parts[0].startswith("~"):
        raise UserError(f"{raw!r} names the home of an unknown user", where=where, allowed="a path")
    return base / path


def _parse_reference(
    option: Option, raw: Any, where: str, base: Path
) -> Path | Literal["last", "best"]:
    if raw in ("last", "best"):
        return cast("Literal['last', 'best']", raw)
    try:
        return _parse_path(option, raw, where, base)
    except UserError as error:
        raise UserError(error.what, where=where, allowed=option.metavar) from None


def _parse_seconds(option: Option, raw: Any, where: str, base: Path) -> float:
    allowed = "a number of seconds above 0"
    try:
        seconds = math.nan if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{raw!r} is not a number", where=where, allowed=allowed) from None
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"{raw!r} is out of range", where=where, allowed=allowed)
    return seconds


def _parse_count(option: Option, raw: Any, where: str, base: Path) -> int:
    allowed = "a whole number from 1 to 1024"
    try:
        count = 0 if isinstance(raw, (bool, float)) else int(raw)
    except (TypeError, ValueError):
        raise UserError(f"{raw!r} is not a whole number", where=where, allowed=allowed) from None
    if not 1 <= count <= 1024:
        raise UserError(f"{raw!r} is out of range", where=where, allowed=allowed)
    return count


def _parse_flag(option: Option, raw: Any, where: str, base: Path) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in TRUE_WORDS | FALSE_WORDS:
        return raw.lower() in TRUE_WORDS
    raise UserError(f"{raw!r} is neither true nor false", where=where, allowed="true, false")


def _parse_text(option: Option, raw: Any, where: str, base: Path) -> str:
    if not isinstance(raw, str) or not raw.strip() or not raw.isprintable():
        raise UserError(f"{raw!r} is no text", where=where, allowed=option.metavar)
    return raw.strip()


def _parse_thresholds(option: Option, raw: Any, where: str, base: Path) -> dict[str, str]:
    if isinstance(raw, Mapping):
        for gate, value in raw.items():
            if value is not False and (value is True or not isinstance(value, (str, int, float))):
                raise UserError(
                    f"{value!r} is not a number",
                    where=f"{where} {gate}",
                    allowed="a number, or false",
                )
        return {gate: "off" if value is False else str(value) for gate, value in raw.items()}
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, Sequence):
        raise UserError(f"{raw!r} is no threshold", where=where, allowed="GATE=VALUE")
    thresholds: dict[str, str] = {}
    for item in items:
        gate, separator, value = str(item).partition("=")
        if not separator or not gate.strip() or not value.strip():
            raise UserError(f"{item!r} is no threshold", where=where, allowed="GATE=VALUE")
        thresholds[gate.strip()] = value.strip()
    return thresholds


_PARSERS: Mapping[str, Callable[[Option, Any, str, Path], Any]] = {
    "names": _parse_names,
    "choice": _parse_choice,
    "path": _parse_path,
    "reference": _parse_reference,
    "seconds": _parse_seconds,
    "count": _parse_count,
    "flag": _parse_flag,
    "text": _parse_text,
    "thresholds": _parse_thresholds,
}


def describe_origins(settings: Settings) -> dict[str, tuple[str, str]]:
    """Return setting name to ``(value, origin)`` for every setting that somebody set."""
    return {
        name: (_readable(getattr(settings, name)), origin)
        for name, origin in settings.origins.items()
        if origin != "default" and name in BY_NAME
    }


def _readable(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)
