"""The records of a search, read back from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_edgeai.records import JSON, Recipe, RuntimeOptions
from pytest_edgeai.search_records import Figure, SearchReport, Trial

REPORTS = "searches"
"""The record of a model's evidence that the report reads."""


def trial_from_json(raw: Mapping[str, JSON]) -> Trial:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    return Trial(
        number=raw["number"],
        recipe=Recipe(**raw["recipe"]),
        runtime=RuntimeOptions(**raw["runtime"]),
        state=raw["state"],
        figures={name: Figure(**figure) for name, figure in raw["figures"].items()},
        seconds=raw["seconds"],
        reason=raw["reason"],
        size_bytes=raw["size_bytes"],
        misses=raw["misses"],
        batch=raw.get("batch"),
    )


def reports_from_json(raw: Mapping[str, JSON] | None) -> dict[str, SearchReport]:
    """Return the record of a model's searches, target name to report."""
    reports: dict[str, SearchReport] = {}
    for target, values in (raw or {}).items():
        tuples: dict[str, Any] = {
            "trials": tuple(trial_from_json(trial) for trial in values["trials"]),
            "finalists": tuple(values["finalists"]),
            "restored": {key: tuple(names) for key, names in values["restored"].items()},
        }
        reports[target] = SearchReport(**{**values, **tuples})
    return reports
