"""The emission factors and the power of processors that CodeCarbon ships, read without a network.

This is a program, run in a process of its own: importing CodeCarbon takes seconds, configures
logging and may warn, and none of that belongs into a test run. It takes a JSON object on standard
input and writes one to standard output. No tracker is started, so nothing is measured, sent or
logged, and every connection is refused.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any

_NORDIC = {"SE": "SWE", "NO": "NOR", "FI": "FIN"}


def refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: end whatever asks for a network."""
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise PermissionError(f"{event}: this process has no use for a network")


class Remarks(logging.Handler):
    """Keeps what CodeCarbon warns of, such as a region that it has no data for after all."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.texts.append(" ".join(record.getMessage().split()))


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return what CodeCarbon's data say.

    Args:
        question: ``region`` (``DEU``, ``USA/california``, ``SWE/SE3``, ``gcp/europe-west1``) and
            ``cpu`` (a processor's name); either may be empty.

    Returns:
        ``version``; for a region either ``region``, ``name`` and ``grams_per_kwh``, or ``regions``,
        the names that would have been known; for a processor ``tdp_watts``, ``None`` where it is
        not in the table, and ``default_watts_per_core``; and ``remarks``, CodeCarbon's warnings.
    """
    from codecarbon import __version__
    from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE
    from codecarbon.input import DataSource

    logger, remarks = logging.getLogger("codecarbon"), Remarks()
    logger.handlers[:] = [remarks]
    logger.propagate = False
    source = DataSource()
    found: dict[str, Any] = {"version": __version__}
    if question.get("region"):
        found |= _factor(source, question["region"])
    if question.get("cpu"):
        table = source.get_cpu_power_data()
        rows = zip(table["Name"], table["TDP"], strict=True)
        found["tdp_watts"] = _tdp(rows, _plain(question["cpu"]))
        found["default_watts_per_core"] = float(DEFAULT_POWER_PER_CORE)
    return found | {"remarks": remarks.texts}


def _factor(source: Any, region: str) -> dict[str, Any]:
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import CloudMetadata, GeoMetadata

    clouds = source.get_cloud_emissions_data()
    clouds = clouds[clouds["impact"].notna()]
    countries = source.get_global_energy_mix_data()
    names: dict[str, str] = {
        f"{row.provider}/{row.region}": f"{row.providerName} {row.region}, {row.country_name}"
        for row in clouds.itertuples()
    }
    names |= {country: mix["country_name"] for country, mix in countries.items()}
    for country, parts in _parts(source).items():
        names |= {f"{country}/{part}": f"{part}, {names[country]}" for part in parts}
    exact = {name.lower(): name for name in names}.get(region.lower())
    if exact is None:
        return {"regions": sorted(names)}
    emissions, kilowatt_hour = Emissions(source), Energy.from_energy(1.0)
    first, _, second = exact.partition("/")
    if first in countries:
        geo = GeoMetadata(country_iso_code=first, country_name=names[first], region=second or None)
        of = emissions.get_region_emissions if second else emissions.get_country_emissions
        kilograms = of(kilowatt_hour, geo)
    else:
        cloud = CloudMetadata(provider=first, region=second)
        kilograms = emissions.get_cloud_emissions(kilowatt_hour, cloud)
    return {"region": exact, "name": names[exact], "grams_per_kwh": 1000.0 * float(kilograms)}


def _parts(source: Any) -> dict[str, list[str]]:
    """Return country to the names of its parts."""
    provinces = source.get_china_provincial_emissions_data()["data"].values()
    parts: dict[str, list[str]] = {
        "USA": [n for n in source.get_country_emissions_data("usa") if not n.startswith("_")],
        "CAN": list(source.get_country_energy_mix_data("can")),
        "CHN": [province["names"][0] for province in provinces],
    }
    for zone in source.get_nordic_country_energy_mix_data()["data"]:
        parts.setdefault(_NORDIC[zone[:2]], []).append(zone)
    return parts


def _tdp(rows: Iterable[tuple[Any, Any]], cpu: str) -> float | None:
    """Return the power of a processor; ``None`` where the table has none or several."""
    found: set[float] = set()
    for name, watts in rows:
        if _plain(str(name)) == cpu:
            try:
                found.add(float(watts))
            except ValueError:
                return None
    return found.pop() if len(found) == 1 else None


def _plain(name: str) -> str:
    """Return a processor's name as both the table and the kernel would write it."""
    text = name.lower().replace("(r)", "").replace("(tm)", "").split(" @ ")[0].split(" with ")[0]
    words = [word for word in text.split() if word not in ("cpu", "processor")]
    return " ".join(word for word in words if not word.endswith("-core"))


if __name__ == "__main__":
    sys.addaudithook(refuse_connections)
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
