"""What is installed in an interpreter; runs there as a script, with the standard library alone."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from typing import Any


def installed() -> dict[str, Any]:
    """Return the distributions of this interpreter, and the environment that markers ask for.

    Returns:
        ``markers``: the variables of "Dependency specifiers" (packaging.python.org, environment
        markers); ``distributions``: ``{name, version, requires}`` each, the first of every name.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in importlib.metadata.distributions():
        name = each.metadata["Name"]
        # What an interrupted installation left has no name.
        if name and name.lower() not in found:
            found[name.lower()] = {
                "name": name,
                "version": each.version,
                "requires": each.requires or [],
            }
    info = sys.implementation.version
    kind = "" if info.releaselevel == "final" else f"{info.releaselevel[0]}{info.serial}"
    markers = {
        "implementation_name": sys.implementation.name,
        "implementation_version": f"{info.major}.{info.minor}.{info.micro}{kind}",
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }
    return {"markers": markers, "distributions": list(found.values())}


if __name__ == "__main__":
    json.dump(installed(), sys.stdout)
