"""The pytest plugin: options, markers and hook specifications; everything else waits for a target.

This module is imported in every pytest run of every project that has the package installed, so it
imports nothing heavy and does nothing until ``--edge-target`` (or its variable, or the manifest's
``[settings] target``) switches it on.
"""

from __future__ import annotations

import os

import pytest

from pytest_edgeai import hookspecs
from pytest_edgeai.settings import ENVIRONMENT_PREFIX, OPTIONS

MARKERS = (
    "edge_target(*names): run this test only for these edge targets",
    "edge_framework(*names): run this test only for candidates of these frameworks",
    "edge_model(name): run this test only for this model of the manifest",
    "edge_gate(name, **limit): this test is a gate; at_least, more_than or at_most sets its threshold",
)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the extension contract."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register every setting as an option; ``None`` tells that a flag was not given."""
    group = parser.getgroup("edgeai", "edge AI quality gates")
    for option in OPTIONS:
        if option.kind == "flag":
            group.addoption(
                option.flag,
                dest=option.destination,
                action="store_true",
                default=None,
                help=option.help,
            )
        else:
            group.addoption(
                option.flag,
                dest=option.destination,
                action="append" if option.kind in ("names", "thresholds") else "store",
                default=None,
                metavar=option.metavar,
                help=option.help,
            )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Switch the plugin on where a target is set, and leave everything alone where none is."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if (
        config.option.edge_target
        or os.environ.get(ENVIRONMENT_PREFIX + "TARGET")
        or _target_in_manifest(config)
    ):
        from pytest_edgeai.driver import activate

        activate(config)
    else:
        from pytest_edgeai.fixtures import idle

        config.pluginmanager.register(idle, "edgeai-idle-fixtures")


def _target_in_manifest(config: pytest.Config) -> bool:
    """Return whether the manifest sets a target, reading no file that does not mention one."""
    given = config.option.edge_manifest
    path = (
        config.invocation_params.dir / given
        if given
        else config.invocation_params.dir / "edgeai.toml"
    )
    if not given and not os.path.isfile(path):  # noqa: PTH113
        path = config.invocation_params.dir / "pyproject.toml"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return False
    if b"target" not in text or (path.name == "pyproject.toml" and b"tool.edgeai" not in text):
        return False
    from pytest_edgeai.manifest import read_tables

    try:
        return "target" in read_tables(path).table("settings")
    except ValueError:
        return False
