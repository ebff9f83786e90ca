from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.registry_address import split_address


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("models", ("", "models")),
        ("oci:models", ("oci", "models")),
        ("oci:C:\\models", ("oci", "C:\\models")),
        ("C:\\models", ("", "C:\\models")),
        ("./oci:models", ("", "./oci:models")),
        ("mlflow:sqlite:///a.db", ("mlflow", "sqlite:///a.db")),
        ("mlflow:http://host:5000", ("mlflow", "http://host:5000")),
    ],
)
def test_an_address_says_its_kind(address: str, found: tuple[str, str]) -> None:
    assert split_address(address) == found


@pytest.mark.parametrize("address", ["", "oci:", "mlflow:", "s3:bucket", "http://host"])
def test_another_address_is_one_line(address: str) -> None:
    with pytest.raises(UserError, match="allowed: DIR, oci:DIR or mlflow:URI"):
        split_address(address)


def test_what_exists_is_a_directory_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oci:models").mkdir()
    assert split_address("oci:models") == ("", "oci:models")
