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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MARKERS = (
    "edge_target(*names): run this test only for these edge targets",
    "edge_framework(*names): run this test only for candidates of these frameworks",
    "edge_model(name): run this test only for this model of the manifest",
    "edge_gate(name, **limit): this test is a gate; at_least, more_than or at_most sets its limit",
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
    if config.option.edge_self_check or os.environ.get(ENVIRONMENT_PREFIX + "SELF_CHECK"):
        from pytest_edgeai.self_checking import activate_self_check

        if activate_self_check(config):
            return
    if (
        config.option.edge_target
        or os.environ.get(ENVIRONMENT_PREFIX + "TARGET")
        or _target_in_manifest(config)
    ):
        from pytest_edgeai.driver import activate

        activate(config)


def pytest_cmdline_main(config: pytest.Config) -> pytest.ExitCode | None:
    """Print the history instead of running tests, where it is asked for."""
    option = config.option
    asked = option.edge_history or os.environ.get(ENVIRONMENT_PREFIX + "HISTORY")
    if not asked or getattr(option, "help", False) or getattr(option, "version", 0):
        return None
    from pytest_edgeai.viewing import show_history

    return show_history(config)


def _skip() -> NoReturn:
    pytest.skip("needs an edge target: pytest --edge-target=NAME")


def _idle(name: str) -> object:
    return pytest.fixture(scope="session", name=name)(_skip)


# Without a target each fixture skips its test and says what switches it on. They are here because
# every run of pytest pays for a further module, and for every name that a plugin has: pluggy and
# pytest look at each. With a target the modules of pytest_edgeai.fixtures, which are registered
# later, take their place.
edge_host = _idle("edge_host")
edge_model = _idle("edge_model")
edge_baseline = _idle("edge_baseline")
edge_candidate = _idle("edge_candidate")
edge_compare = _idle("edge_compare")
edge_onnxruntime = _idle("edge_onnxruntime")
edge_openvino = _idle("edge_openvino")


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
