"""Latency samples in pytest-benchmark's storage, as if its fixture had taken them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.records import JSON, to_json


@dataclass(frozen=True)
class _Source:
    """What ``pytest_benchmark.stats.Metadata`` reads of the fixture that took the samples."""

    name: str
    fullname: str
    group: str
    extra_info: Mapping[str, JSON]
    param: None = None
    params: None = None
    cprofile_stats: None = None
    has_error: bool = False


def _session(config: pytest.Config) -> Any | None:
    """Return the session of pytest-benchmark; ``None`` where it is absent, disabled or skipping.

    It registers its session under this name, and disables itself under pytest-xdist.
    """
    session = config.pluginmanager.get_plugin("pytest-benchmark")
    if session is None or session.disabled or session.skip:
        return None
    return session


def add_latency(
    config: pytest.Config,
    *,
    name: str,
    group: str,
    fullname: str,
    samples_ns: NDArray[np.int64],
    extra_info: Mapping[str, JSON],
) -> bool:
    """Add one entry to what pytest-benchmark shows, saves and compares.

    Has to be called before the end of the session (``pytest_sessionfinish``), where
    pytest-benchmark writes its files.

    Args:
        config: of the running session.
        name: short name of the entry, ``digits/openvino-int8-static/candidate``.
        group: entries of one group stand in one table.
        fullname: what entries of two sessions are matched by.
        samples_ns: int64, shape ``(samples,)``, at least one; stored in seconds.
        extra_info: stored beside the entry.

    Returns:
        Whether it was added: not without pytest-benchmark, nor where it is disabled
        (``--benchmark-disable``, pytest-xdist) or skips (``--benchmark-skip``).

    Raises:
        ValueError: without samples.
        EdgeAIError: where this version of pytest-benchmark is built in another way.
    """
    session = _session(config)
    if session is None:
        return False
    if samples_ns.size == 0:
        raise ValueError("no samples")
    source = _Source(name, fullname, group, to_json(extra_info))
    try:
        metadata = importlib.import_module("pytest_benchmark.stats").Metadata(
            source, iterations=1, options={"timer": "perf_counter_ns", "disable_gc": False}
        )
        for seconds in (samples_ns / 1e9).tolist():
            metadata.update(seconds)
        # Renders the entry once, so that what does not fit fails here and not at the session's end.
        metadata.as_dict(include_data=False, flat=True)
        session.benchmarks.append(metadata)
    except (AttributeError, ImportError, TypeError) as error:
        raise EdgeAIError(
            "latency samples cannot be handed to this version of pytest-benchmark"
            f" ({type(error).__name__}: {error}); run with -p no:benchmark"
        ) from error
    return True


def drop_unlike(
    config: pytest.Config, fullname: str, refusal: Callable[[JSON], str]
) -> tuple[str, ...]:
    """Take out of what pytest-benchmark loaded for ``--benchmark-compare`` what does not compare.

    pytest-benchmark itself only warns where the machines differ, and knows nothing of tools and
    threads. Has to be called before the end of the session, as :func:`add_latency`.

    Args:
        config: of the running session.
        fullname: of the entry that would be compared.
        refusal: returns why an entry with this ``extra_info`` is not compared; empty if it is.

    Returns:
        The name of each file whose entry was taken out, with the reason.
    """
    session = _session(config)
    refused: list[str] = []
    loaded = {} if session is None else getattr(session, "compared_mapping", {})
    for path, entries in loaded.items():
        if fullname in entries and (why := refusal(entries[fullname].get("extra_info") or {})):
            del entries[fullname]
            refused.append(f"{Path(path).name}: {why}")
    return tuple(refused)
