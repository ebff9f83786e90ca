"""SPDX licence expressions: which are known, and which may ship.

Expressions: "SPDX License Expressions" (SPDX 2.3, annex D), parsed by ``license-expression``, which
is imported where a licence has to be judged and nowhere else. Licences that SPDX has no identifier
for go by ``LicenseRef-NAME``, as the annex says; those of models by the names of the Hugging Face
Hub (https://huggingface.co/docs/hub/repositories-licenses).
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pytest_edgeai.errors import UserError, did_you_mean
from pytest_edgeai.specification import ModelSpec, Production

PACKAGE = "license-expression"
PERMISSIVE = (
    "0BSD",
    "AFL-3.0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "ECL-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MulanPSL-2.0",
    "ODC-By-1.0",
    "PDDL-1.0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
)
"""Licences that ask for no more than a notice, of code and of data."""
MODEL_LICENSES = tuple(
    f"LicenseRef-{name}"
    for name in (
        "OpenMDW-1.0",
        "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m",
        "creativeml-openrail-m",
        "gemma",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "openrail",
        "openrail-plus-plus",
    )
)
"""Common licences of models that allow commercial use; most bind what the model is used for."""
ALLOWED_BY_DEFAULT = (*PERMISSIVE, *MODEL_LICENSES)
_REFERENCE = re.compile(r"(DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")
_KEYS = ("license", "data_license")


def is_available() -> bool:
    """Return whether licences can be judged here."""
    return importlib.util.find_spec("license_expression") is not None


def check_licenses(production: Production, models: Sequence[ModelSpec]) -> None:
    """Refuse licences that nobody knows; without ``license-expression`` the gate says so instead.

    Raises:
        UserError: names the key, and the closest licence that is known.
    """
    declared = [
        (getattr(model, key), f"{model.where} {key}")
        for model in models
        for key in _KEYS
        if getattr(model, key)
    ]
    declared += [
        (text, f"{production.where} allowed_licenses") for text in production.allowed_licenses or ()
    ]
    if declared and is_available():
        for text, where in declared:
            parse_license(text, where)


def parse_license(text: str, where: str) -> Any:
    """Return the parsed expression, its names in the spelling of SPDX.

    Args:
        text: the expression.
        where: the manifest's key, for errors.

    Raises:
        UserError: it is no expression, or names a licence that SPDX does not.
    """
    from license_expression import ExpressionError, ParseError

    allowed = 'an SPDX expression such as "Apache-2.0" or "MIT AND CC-BY-4.0"'
    try:
        tree = _licensing().parse(text)
    # What lacks a part ends in an error of the parser's own.
    except (ExpressionError, ParseError, IndexError, AttributeError, TypeError):
        tree = None
    if tree is None:
        raise UserError(f'"{text}" is no licence expression', where=where, allowed=allowed)
    known = [name for name in _licensing().known_symbols if not name.startswith("LicenseRef")]
    for symbol in sorted(set(_licensing().unknown_license_keys(tree))):
        if not _REFERENCE.fullmatch(symbol):
            references = {name.removeprefix("LicenseRef-").lower(): name for name in MODEL_LICENSES}
            advice = did_you_mean(symbol.lower(), references)
            if symbol.lower() in references:
                advice = f'did you mean "{references[symbol.lower()]}"?'
            raise UserError(
                f'unknown licence "{symbol}"',
                where=where,
                allowed=f"{allowed}, or LicenseRef-NAME for one that SPDX does not list",
                advice=did_you_mean(symbol, known) or advice,
            )
    return tree


def denied_licenses(text: str, allowed: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the licences that keep an expression from being allowed; nothing where it is.

    Of alternatives one has to be allowed, of what applies together all. An exception only adds
    permissions, so that a licence is allowed with every exception.

    Raises:
        UserError: it is no expression, or names a licence that SPDX does not.
    """
    names = {name.lower() for name in allowed}
    return tuple(sorted(_denied(parse_license(text, where), names)))


def _denied(tree: Any, allowed: set[str]) -> set[str]:
    from license_expression import LicenseWithExceptionSymbol

    if tree.isliteral:
        base = tree.license_symbol if isinstance(tree, LicenseWithExceptionSymbol) else tree
        is_allowed = {str(tree).lower(), str(base.key).lower()} & allowed
        return set() if is_allowed else {str(tree)}
    parts = [_denied(part, allowed) for part in tree.args]
    if tree.operator.strip().upper() == "OR" and not all(parts):
        return set()
    return set().union(*parts)


@functools.cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
