"""Emission factors and the power of processors, from CodeCarbon's data and without a network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.measure import energy_factors
from pytest_edgeai.measure.codecarbon_data import refuse_connections
from pytest_edgeai.measure.energy_factors import (
    DEFAULT_WATTS_PER_CORE,
    carbon_factor,
    core_power,
)

INSTALL = 'pip install "pytest-edgeai[energy]"'
needs_codecarbon = pytest.mark.skipif(
    importlib.util.find_spec("codecarbon") is None, reason=INSTALL
)
WHERE = "edgeai.toml [settings] carbon_region"


@needs_codecarbon
@pytest.mark.parametrize(
    ("written", "region", "name", "low", "high"),
    [
        ("usa/California", "USA/california", "california, United States", 100, 400),
        ("SWE/se3", "SWE/SE3", "SE3, Sweden", 5, 60),
        ("gcp/europe-west1", "gcp/europe-west1", "Belgium", 50, 300),
    ],
)
def test_a_region_has_a_factor(
    written: str, region: str, name: str, low: float, high: float
) -> None:
    factor = carbon_factor(written, WHERE)
    assert factor.region == region
    assert name in factor.name
    assert low < factor.grams_per_kwh < high
    assert factor.source.startswith("CodeCarbon ")


@needs_codecarbon
def test_an_unknown_region_is_one_line_with_a_suggestion() -> None:
    with pytest.raises(UserError) as caught:
        carbon_factor("USA/californa", WHERE)
    text = str(caught.value)
    assert text.startswith(f'{WHERE}: unknown region "USA/californa"; allowed: a country such as')
    assert text.endswith('Did you mean "USA/california"?')
    assert "\n" not in text


@needs_codecarbon
def test_a_processor_of_the_table_has_its_share_of_the_power() -> None:
    power = core_power("AMD EPYC 7252 8-Core Processor", 16, whole_processor=True)
    assert power.watts == pytest.approx(120 / 16)
    assert power.source.startswith("120 W for 16 cores of AMD EPYC 7252")


@pytest.mark.parametrize(
    ("model", "whole"), [("AMD EPYC 7252 8-Core Processor", False), ("Abacus 1", True), ("", True)]
)
def test_an_unknown_processor_or_a_slice_of_one_has_the_default(model: str, whole: bool) -> None:
    power = core_power(model, 16, whole_processor=whole)
    assert power.watts == DEFAULT_WATTS_PER_CORE
    assert "default" in power.source


def test_without_codecarbon_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    energy_factors._ask.cache_clear()
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "codecarbon")
    with pytest.raises(UserError, match="codecarbon is not installed") as caught:
        carbon_factor("DEU", WHERE)
    assert INSTALL in str(caught.value)
    assert core_power("Abacus 1", 4, whole_processor=True).watts == DEFAULT_WATTS_PER_CORE
    energy_factors._ask.cache_clear()


def test_a_broken_installation_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "codecarbon"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    energy_factors._ask.cache_clear()
    with pytest.raises(UserError, match="cannot be read: RuntimeError: half installed"):
        carbon_factor("DEU", WHERE)
    energy_factors._ask.cache_clear()


def test_the_program_refuses_every_connection() -> None:
    with pytest.raises(PermissionError, match="no use for a network"):
        refuse_connections("socket.connect", ())
    refuse_connections("open", ())
    attempt = (
        "import socket, sys; from pytest_edgeai.measure.codecarbon_data import refuse_connections; "
        "sys.addaudithook(refuse_connections); socket.create_connection(('127.0.0.1', 9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", attempt], capture_output=True, encoding="utf-8", timeout=60
    )
    assert "this process has no use for a network" in done.stderr
