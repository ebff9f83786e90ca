"""The lines of ``edgeai.toml`` that apply a remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pytest_edgeai.records import JSON, Recipe

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def recipe_lines(model: str, recipe: Recipe, instead_of: str = "") -> tuple[str, ...]:
    """Return the table of a recipe.

    Args:
        model: name of the model.
        recipe: what to make.
        instead_of: id of the recipe whose table it takes the place of; empty where it is added.
    """
    lines = [f"[[models.{key(model)}.recipes]]"]
    if instead_of:
        lines.append(f"# takes the place of {instead_of}")
    lines += [f"framework = {value(recipe.framework)}", f"scheme = {value(recipe.scheme)}"]
    if recipe.label:
        lines.append(f"label = {value(recipe.label)}")
    if recipe.options:
        lines.append(f"options = {value(recipe.options)}")
    return tuple(lines)


def setting_lines(settings: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return lines for the table ``[settings]``."""
    return ("[settings]", *(f"{key(name)} = {value(each)}" for name, each in settings.items()))


def model_lines(model: str, name: str, to: JSON, remark: str = "") -> tuple[str, ...]:
    """Return lines for a model's own table, with a remark behind the value."""
    behind = f"  # {remark}" if remark else ""
    return (f"[models.{key(model)}]", f"{key(name)} = {value(to)}{behind}")


def gate_lines(model: str, gate: str, limit: float) -> tuple[str, ...]:
    """Return lines for the table of a model's own limits."""
    return (f"[models.{key(model)}.gates]", f"{key(gate)} = {value(limit)}")


def key(name: str) -> str:
    """Return a TOML key: bare where it can be (https://toml.io/en/v1.0.0#keys)."""
    return name if _BARE.fullmatch(name) else value(name)


def value(item: JSON) -> str:
    """Return a TOML value on one line.

    Raises:
        TypeError: for ``None`` and whatever else TOML has no value for.
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return repr(item)
    if isinstance(item, str):
        # JSON's escapes are TOML's too, but for DEL, which JSON does not escape.
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, Mapping):
        inside = ", ".join(f"{key(str(name))} = {value(each)}" for name, each in item.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(item, Sequence):
        return f"[{', '.join(value(each) for each in item)}]"
    raise TypeError(f"TOML has no value for {type(item).__name__}")
