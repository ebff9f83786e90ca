"""Reference statistics: what inputs and answers looked like when a candidate was promoted.

Monitoring holds against them what it sees later: quantiles are the bins of the population stability
index and of a Kolmogorov-Smirnov distance, class shares those of a chi-squared test. They describe
distributions and hold no sample: no quantile is stated that fewer than :data:`LEAST_BETWEEN`
samples part from the next one, and no extremes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.records import JSON

SCHEMA = "pytest-edgeai/reference/1"
LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LEAST_BETWEEN = 5
MOST_VALUES = 1_000_000
"""Values that quantiles are taken of; of larger arrays it is an even part."""
MOST_FEATURES = 256
"""Columns of a table that are described one by one."""
MOST_CLASSES = 10_000


def reference_statistics(
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    scores: NDArray[np.float64] | None = None,
) -> dict[str, JSON]:
    """Return the statistics of one evaluation, as JSON of :data:`SCHEMA`.

    Args:
        inputs: input name to array; axis 0 counts the samples.
        outputs: output name to what the candidate answered; likewise.
        scores: its score per sample, shape ``(samples,)``; ``None`` where there is none.
    """
    counted = [len(array) for array in (*inputs.values(), *outputs.values()) if array.ndim]
    # What is not finite, or gets too large for a float, is counted or left out, and no surprise.
    with np.errstate(over="ignore", invalid="ignore"):
        return {
            "schema": SCHEMA,
            "samples": max(counted, default=0 if scores is None else len(scores)),
            "inputs": {name: _array(array) for name, array in inputs.items()},
            "outputs": {name: _output(array) for name, array in outputs.items()},
            "scores": None if scores is None else _distribution(scores, len(scores)),
        }


def _array(array: NDArray[Any]) -> dict[str, JSON]:
    about: dict[str, JSON] = {"dtype": array.dtype.name, "sample_shape": list(array.shape[1:])}
    samples = len(array)
    if array.dtype.kind in "OSUT":
        lengths = np.asarray([len(str(text)) for text in array.reshape(-1)], dtype=np.float64)
        return {**about, "dtype": "str", "length": _distribution(lengths, samples)}
    values = _even_part(array)
    about["values"] = _distribution(values, samples)
    if not array.size:
        return about
    flat = array.reshape(samples, -1)
    if array.ndim == 2 and flat.shape[1] <= MOST_FEATURES:
        columns = (flat[:, column].astype(np.float64) for column in range(flat.shape[1]))
        about["features"] = [_distribution(column, samples) for column in columns]
    elif array.ndim > 2 and flat.size:
        # Of images and audio: brightness and contrast of each sample.
        wide = flat.astype(np.float64)
        about["sample_mean"] = _distribution(wide.mean(axis=1), samples)
        about["sample_std"] = _distribution(wide.std(axis=1), samples)
    return about


def _output(array: NDArray[Any]) -> dict[str, JSON]:
    about = _array(array)
    if array.dtype.kind in "OSUT":
        names, counts = np.unique(array.astype(str), return_counts=True)
        if len(names) <= MOST_CLASSES:
            shares = (counts / counts.sum()).tolist()
            about["class_shares"] = dict(zip(names.tolist(), shares, strict=True))
    elif array.size and array.dtype.kind == "f" and _has_classes(array):
        counts = np.bincount(array.argmax(axis=1), minlength=array.shape[1])
        shares = (counts / max(1, counts.sum())).tolist()
        about["class_shares"] = {str(index): share for index, share in enumerate(shares)}
        ordered = np.sort(array.astype(np.float64), axis=1)
        about["margin"] = _distribution(ordered[:, -1] - ordered[:, -2], len(array))
    return about


def _has_classes(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and 1 < array.shape[1] <= MOST_CLASSES


def _even_part(array: NDArray[Any]) -> NDArray[np.float64]:
    flat = array.reshape(-1)
    step = -(-flat.size // MOST_VALUES) or 1
    return flat[::step].astype(np.float64)


def _distribution(values: NDArray[np.float64], samples: int) -> dict[str, JSON]:
    """Return mean, standard deviation and quantiles of what is finite, and the share that is not.

    Args:
        values: any number of values.
        samples: how many samples they come from.
    """
    finite = values[np.isfinite(values)]
    about: dict[str, JSON] = {
        "mean": None,
        "std": None,
        "quantiles": {},
        "not_finite_ratio": 1 - finite.size / values.size if values.size else 0.0,
    }
    if not finite.size or samples < LEAST_BETWEEN:
        return about
    levels = _stated_levels(samples)
    quantiles = np.quantile(finite, levels).tolist() if levels else []
    return {
        **about,
        "mean": _finite(finite.mean()),
        "std": _finite(finite.std()),
        "quantiles": {
            f"{level:g}": value
            for level, value in zip(levels, quantiles, strict=True)
            if np.isfinite(value)
        },
    }


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _stated_levels(samples: int) -> list[float]:
    """Return the levels with enough samples before the first, between each two, after the last."""
    chosen: list[float] = []
    last = 0.0
    for level in LEVELS:
        if (level - last) * samples >= LEAST_BETWEEN and (1 - level) * samples >= LEAST_BETWEEN:
            chosen.append(level)
            last = level
    return chosen
