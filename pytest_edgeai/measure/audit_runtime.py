"""Which distributions run a candidate: a framework's, and all that they require."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure import installed
from pytest_edgeai.measure.tools import run_tool

_LIST_LIMIT_S = 60.0


def list_installed(interpreter: Path) -> Mapping[str, Any]:
    """Return what :func:`pytest_edgeai.measure.installed.installed` says of an interpreter.

    Raises:
        MeasurementError: it cannot be asked.
    """
    own = Path(sys.executable).absolute()
    if os.path.normcase(interpreter.absolute()) == os.path.normcase(own):
        return installed.installed()
    script = str(Path(installed.__file__).absolute())
    with tempfile.TemporaryDirectory(prefix="pytest-edgeai-tool-") as home:
        said = run_tool(
            (str(interpreter), "-I", script), Path(home), time_limit_s=_LIST_LIMIT_S, online=False
        )
    try:
        content: Mapping[str, Any] = json.loads(said.output)
    except ValueError:
        raise MeasurementError(f"{interpreter} cannot tell what is installed in it") from None
    return content


def required_distributions(roots: Iterable[str], listing: Mapping[str, Any]) -> dict[str, str]:
    """Return name to version of some distributions and of all that they require there.

    Requirements are followed as an installer does: by their markers and the extras that are asked
    for. What a marker rules out, and what is not installed, is left out.

    Args:
        roots: names of distributions.
        listing: of the interpreter, see :func:`list_installed`.
    """
    known: dict[str, Any] = {
        canonicalize_name(each["name"]): each for each in listing["distributions"]
    }
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[str, str]] = [(canonicalize_name(root), "") for root in roots]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in known:
            continue
        seen.add((name, extra))
        found[name] = str(known[name]["version"])
        for text in known[name]["requires"]:
            try:
                required = Requirement(text)
            except InvalidRequirement:
                continue
            environment = {**listing["markers"], "extra": extra}
            if required.marker is not None and not required.marker.evaluate(environment):
                continue
            other = canonicalize_name(required.name)
            waiting += [(other, ""), *((other, each) for each in required.extras)]
    return dict(sorted(found.items()))
