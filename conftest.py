"""This repository's own test set-up."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _own_runs_are_not_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pytest runs that tests start not take themselves for workers of pytest-xdist."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
