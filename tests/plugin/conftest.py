"""Small real projects for pytest to run on, and a watch over what runs leave behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_runs import Place, Run, running_workers
from models import Project, linear_classifier

from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A classifier of a few kilobytes with its data; made once."""
    return linear_classifier(tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> Iterator[None]:
    """Let runs hear Ctrl-C where this one was started in the background of a shell.

    Such a shell has its jobs ignore the signal, and what is ignored stays so in every child.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def temporary_files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give every run its own place for temporary files; nothing may be left there or running."""
    place = tmp_path_factory.mktemp("temporary")
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(place))
    for name in list(os.environ):
        if name in ("CI", "GITHUB_STEP_SUMMARY") or name.startswith(
            ("PYTEST_ADDOPTS", "PYTEST_EDGEAI_", "PYTEST_XDIST_")
        ):
            monkeypatch.delenv(name)
    # Tests in several processes do not wait for each other: their limits hold however busy it is.
    monkeypatch.setenv(LOCK_DIRECTORY_VARIABLE, str(place))
    yield place
    left = [path.name for path in place.glob("pytest-edgeai-*") if path.is_dir()]
    assert left == [], f"temporary directories were left: {left}"
    assert running_workers(place) == [], "worker processes were left"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts that tests share, so that each is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(pytester: pytest.Pytester, linear: Project, shared_cache: Path) -> Place:
    """An empty project; write its manifest with :meth:`Place.write`."""
    return Place(pytester, linear, shared_cache)


@pytest.fixture
def quick(place: Place) -> Callable[..., Run]:
    """Run pytest in a project with one small model and limits that it keeps."""
    place.write()
    return place.run
