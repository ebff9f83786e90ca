"""What pytest was called with: the settings, the manifest, and which process this is."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest

from pytest_edgeai.configuration import Settings, resolve
from pytest_edgeai.errors import UserError
from pytest_edgeai.manifest import MANIFEST_NAME, PYPROJECT_NAME, find_manifest, read_tables
from pytest_edgeai.settings import OPTIONS

CACHE_NAME = ".edgeai"


def is_worker(config: pytest.Config) -> bool:
    """Return whether this is a worker process of pytest-xdist."""
    return hasattr(config, "workerinput")


def read_settings(config: pytest.Config) -> tuple[Settings, Path]:
    """Return the settings of this run and the path of its manifest.

    Raises:
        UserError: a setting is wrong, or there is no manifest.
    """
    settings, path = find_settings(config)
    if path is None:
        raise UserError(
            f"no {MANIFEST_NAME}, and no [tool.edgeai] in {PYPROJECT_NAME}",
            where=f"{_start(config)} and the directories above",
            advice="Write one beside the model, or name it with --edge-manifest",
        )
    return settings, path


def find_settings(config: pytest.Config) -> tuple[Settings, Path | None]:
    """Return the settings of this run, and the path of its manifest where there is one.

    Raises:
        UserError: a setting is wrong.
    """
    here = config.invocation_params.dir
    given = {option.destination: getattr(config.option, option.destination) for option in OPTIONS}
    alone = resolve(given, os.environ, {}, manifest_path=None, invocation_directory=here)
    path = alone.manifest or find_manifest(_start(config)) or find_manifest(here)
    if path is None:
        return alone, None
    path = path.resolve()
    if path.is_dir():
        raise UserError(
            "is a directory", where=f"--edge-manifest {path}", allowed="a manifest file"
        )
    table = read_tables(path).table("settings")
    manifest = {key: table.raw(key) for key in table}
    return resolve(given, os.environ, manifest, manifest_path=path, invocation_directory=here), path


def cache_directory(settings: Settings, manifest_path: Path) -> Path:
    """Return where artifacts, evidence and the history lie."""
    return settings.cache_dir or manifest_path.parent / CACHE_NAME


def _start(config: pytest.Config) -> Path:
    """Return where the search for a manifest starts: the directory of the first path argument."""
    here = config.invocation_params.dir
    if config.args_source == config.ArgsSource.ARGS:
        for argument in config.args:
            path = here / argument.split("::", 1)[0]
            if path.exists():
                return (path if path.is_dir() else path.parent).resolve()
    return here.resolve()


def run_id(config: pytest.Config) -> str:
    """Return the name of this run, which the worker processes of pytest-xdist share."""
    if is_worker(config):
        shared: str = config.workerinput["edge_run_id"]  # type: ignore[attr-defined]
        return shared
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"
