"""A real artifact on disk with the candidate that it belongs to, and a signed bundle of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from promotions import build, signed_bundle, signing_key

from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.report.content import CandidateReport, ModelReport


@pytest.fixture(name="made")
def made_fixture(tmp_path: Path) -> tuple[CandidateReport, ModelReport]:
    """A candidate that may be promoted, with its model."""
    return build(tmp_path / "cache")


@pytest.fixture(name="other")
def other_fixture(tmp_path: Path) -> tuple[CandidateReport, ModelReport]:
    """The same candidate, made into another artifact."""
    return build(tmp_path / "other-cache", b"other")


@pytest.fixture(name="key")
def key_fixture() -> SigningKey:
    """A key that signs."""
    return signing_key()


@pytest.fixture(name="bundle")
def bundle_fixture(tmp_path: Path, key: SigningKey) -> Path:
    """A bundle that the key signed."""
    return signed_bundle(tmp_path, key)
