"""The gate of energy, as a user runs it; the counters below are planted and called so."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from edge_runs import CANDIDATE, Place, Run
from models import require
from planted_energy import Advancing, package

INSTALL = 'pip install "pytest-edgeai[energy]"'
needs_codecarbon = pytest.mark.skipif(
    importlib.util.find_spec("codecarbon") is None, reason=INSTALL
)


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A planted sysfs without any counter, whatever this machine has."""
    sysfs = tmp_path / "sys"
    sysfs.mkdir()
    return sysfs


def verdict(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = next(
        gate for gate in run.candidate()["gates"] if gate["name"] == "energy_retained"
    )
    return found


@needs_codecarbon
def test_an_estimate_reads_proxy_and_says_what_it_is(place: Place, bare: Path) -> None:
    place.write("[gates]\nenergy_retained = 100\nenergy_watts_per_core = 5.5\n")
    settings = (f"--edge-sysfs={bare}", "--edge-carbon-region=DEU", "--edge-budget=20")
    run = place.run("-k", "energy_retained", "-rs", *settings)
    assert run.code == 0, run.text
    assert run.outcomes["skipped"] == 1
    found = verdict(run)
    assert found["outcome"] == "proxy"
    # On a busy machine a short budget may hold too few pairs for the estimate, too.
    assert found["details"]["outcome_on_proxy"] in ("pass", "inconclusive")
    assert "no counter of the energy of the CPU can be read" in found["reason"]
    assert "an estimate: CPU time times 5.5 W per core" in found["reason"]
    assert "energy was not measured" in run.text
    assert "energy_retained" in run.candidate()["promotion_blocked_by"]
    energy = run.candidate()["energy"]
    assert energy["method"]["measured"] is False
    assert energy["method"]["sources"] == ["CPU time"]
    assert energy["carbon"]["region"] == "DEU"
    grams = energy["candidate_joules"] / 3.6 * energy["carbon"]["grams_per_kwh"]
    assert energy["candidate_grams_per_million"] == pytest.approx(grams)


def test_planted_counters_are_judged_and_certify_nothing(place: Place, tmp_path: Path) -> None:
    """What would pass on counters of the kernel is a proxy here."""
    sysfs = tmp_path / "sys"
    zone = package(sysfs, energy_uj=0, dram=False)
    place.write("[gates]\nenergy_retained = 100\n")
    arguments = ("-k", "energy_retained", f"--edge-sysfs={sysfs}", "--edge-budget=40")
    with Advancing(zone / "energy_uj", watts=20.0):
        found = verdict(run := place.run(*arguments))
    assert found["outcome"] == "proxy", found
    assert found["details"]["outcome_on_proxy"] == "pass"
    assert "is a planted directory and no sysfs of this kernel" in found["reason"]
    assert found["details"]["domains"] == {"package-0": str(zone / "energy_uj")}
    assert found["samples"] == 9
    energy = run.candidate()["energy"]
    assert energy["method"]["sources"] == ["RAPL"]
    assert energy["method"]["measured"] is False
    assert energy["idle_watts"] == pytest.approx(20, rel=0.2)
    home = Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE
    assert json.loads((home / "energy.json").read_text("utf-8"))["pairs"] == energy["pairs"]
    assert (home / "energy.npz").exists()


@needs_codecarbon
def test_without_a_limit_it_is_a_figure_and_no_gate(place: Place, bare: Path) -> None:
    place.write()
    settings = (f"--edge-sysfs={bare}", "--edge-carbon-region=SWE/SE3", "--edge-budget=8")
    run = place.run("-k", "speedup", *settings)
    assert run.code == 0, run.text
    assert "energy_retained" not in run.candidate()["required_gates"]
    assert run.candidate()["energy"]["carbon"]["name"] == "SE3, Sweden"


@needs_codecarbon
def test_an_unknown_region_is_one_line(place: Place) -> None:
    place.write("[settings]\ncarbon_region = 'DEUX'\n")
    run = place.run()
    assert run.code == 4
    text = run.result.stderr.str()
    assert 'edgeai.toml [settings] carbon_region: unknown region "DEUX"; allowed:' in text
    assert "Did you mean" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("extra", "argument", "words"),
    [
        ("", "--edge-sysfs=nowhere", "is no directory; allowed: where a sysfs is mounted"),
        ("[gates]\nenergy_watts_per_core = -4\n", "", "energy_watts_per_core: -4 is out of range"),
    ],
)
def test_bad_input_is_one_line(place: Place, extra: str, argument: str, words: str) -> None:
    place.write(extra)
    run = place.run(*([argument] if argument else []))
    assert run.code == 4
    assert words in run.result.stderr.str()
    assert "Traceback" not in run.result.stderr.str()
