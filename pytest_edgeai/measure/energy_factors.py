"""Emission factors and the power of processors, from CodeCarbon's data; see ``codecarbon_data``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pytest_edgeai.energy_records import CarbonFactor
from pytest_edgeai.errors import NotCertified, UserError, did_you_mean

INSTALL = 'pip install "pytest-edgeai[energy]"'
PROGRAM = "pytest_edgeai.measure.codecarbon_data"
TIME_LIMIT_S = 120.0
DEFAULT_WATTS_PER_CORE = 4.0
"""Power of a core that computes where nothing better is known: CodeCarbon's own default."""

SETTING = "energy_watts_per_core"


@dataclass(frozen=True)
class CorePower:
    """The power that an estimate multiplies CPU time with.

    Attributes:
        watts: of one core that computes.
        source: where the figure comes from, for people.
    """

    watts: float
    source: str


def carbon_factor(region: str, where: str) -> CarbonFactor:
    """Return what a kilowatt-hour emits in a region.

    Args:
        region: country (``DEU``), country and part (``USA/california``, ``SWE/SE3``), or cloud and
            its region (``gcp/europe-west1``); case does not matter.
        where: who set it, for errors.

    Raises:
        UserError: no such region, or CodeCarbon is not installed.
    """
    try:
        found = _ask(region=region)
    except NotCertified as error:
        raise UserError(error.what, where=where, advice=error.advice) from None
    regions = found.get("regions")
    if regions is not None:
        allowed = 'a country such as "DEU", "USA/california", "SWE/SE3" or "gcp/europe-west1"'
        guess = did_you_mean(region.upper(), regions) or did_you_mean(region.lower(), regions)
        raise UserError(f'unknown region "{region}"', where=where, allowed=allowed, advice=guess)
    source = f"CodeCarbon {found['version']}"
    if found["remarks"]:
        source += f", which says: {'; '.join(found['remarks'])}"
    return CarbonFactor(found["region"], found["name"], float(found["grams_per_kwh"]), source)


def core_power(cpu_model: str, cores: int, *, whole_processor: bool) -> CorePower:
    """Return the power of one core that computes, as far as tables know it.

    Args:
        cpu_model: the processor's name.
        cores: logical cores of the whole processor.
        whole_processor: whether this machine has all of it; a slice of a processor, as virtual
            machines and containers have, has no power that a table knows.
    """
    known: Mapping[str, Any] = {}
    if whole_processor and cpu_model and cores:
        try:
            known = _ask(cpu=cpu_model)
        except NotCertified:
            known = {}
    tdp = known.get("tdp_watts")
    if tdp:
        source = f"{tdp:g} W for {cores} cores of {cpu_model} by CodeCarbon {known['version']}"
        return CorePower(float(tdp) / cores, source)
    return CorePower(DEFAULT_WATTS_PER_CORE, "CodeCarbon's default for an unknown processor")


@lru_cache(maxsize=16)
def _ask(*, region: str = "", cpu: str = "") -> dict[str, Any]:
    """Return the answer of the program that reads CodeCarbon's data.

    Raises:
        NotCertified: it is not installed, or its data cannot be read.
    """
    if importlib.util.find_spec("codecarbon") is None:
        raise NotCertified("codecarbon is not installed", advice=f"run: {INSTALL}")
    question = json.dumps({"region": region, "cpu": cpu})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-m", PROGRAM],
            input=question,
            capture_output=True,
            encoding="utf-8",
            timeout=TIME_LIMIT_S,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no output"])[-1]
        raise NotCertified(
            f"codecarbon's data cannot be read: {last}", advice=f"run: {INSTALL}"
        ) from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NotCertified(f"codecarbon's data cannot be read: {error}") from None
    return answer
