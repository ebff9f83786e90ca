"""Recorded requests: read, matched to a model, and kept apart from what it was calibrated with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.measure.dataset import (
    CLASSES,
    LABELS,
    Dataset,
    fit_arrays,
    load_arrays,
    npz_headers,
)
from pytest_edgeai.measure.divisions import SLICES
from pytest_edgeai.measure.overlap import repeated_samples, sample_keys
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.specification import TEXT_SUFFIX, DataSource

TIMESTAMPS = "timestamps"
"""The array with the time of each request, in seconds since any moment."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Recorded requests that can be replayed, in recorded order.

    Attributes:
        requests: the inputs, and labels where there are any.
        times_s: float64, shape ``(requests,)``, seconds after the first request of the recording;
            ``None`` without timestamps.
        left_out: requests left out because they are calibration samples.
        repeated: requests that equal an earlier one.
    """

    requests: Dataset
    times_s: NDArray[np.float64] | None
    left_out: int
    repeated: int


def check_traffic(
    source: DataSource | None,
    inputs: Collection[TensorSpec],
    *,
    slices: tuple[str, ...] | None = None,
) -> None:
    """Check what the headers of a ``.npz`` file tell of recorded requests, reading none of them.

    Args:
        source: where the requests come from; callables are checked when they are called.
        inputs: the model's inputs; none where its file does not state them.
        slices: names of the arrays that divide the samples.

    Raises:
        ModelError: names the array, what is wrong and what is allowed.
    """
    if source is None or source.path is None or source.path.suffix == TEXT_SUFFIX or not inputs:
        return
    # One element that stands for all: names, shapes and dtypes are checked as those of the samples.
    arrays = {
        name: np.broadcast_to(np.ones((), dtype), shape)
        for name, (shape, dtype) in npz_headers(source).items()
        if name != CLASSES
    }
    _fit(arrays, inputs, source.where, slices)


def load_traffic(
    source: DataSource,
    inputs: Collection[TensorSpec],
    *,
    directory: Path,
    calibration: Dataset | None,
    slices: tuple[str, ...] | None = None,
) -> Traffic:
    """Read recorded requests, less those that the candidate was calibrated with.

    Args:
        source: a ``.npz`` file, or a callable that returns the same arrays: the model's inputs, and
            ``labels`` and ``timestamps`` where they are known.
        inputs: the model's inputs.
        directory: import path of callables.
        calibration: what candidates are calibrated with; ``None`` for nothing.
        slices: names of the arrays that divide the samples.

    Raises:
        ModelError: arrays are missing, unknown, empty, of unequal length, or do not fit; times that
            are not finite or go back; nothing is left without the calibration samples.
    """
    requests, times_s = _fit(load_arrays(source, directory), inputs, source.where, slices)
    if times_s is not None:
        _check_times(times_s, source.where)
    kept = np.ones(requests.samples, dtype=np.bool_)
    if calibration is not None:
        known = set(sample_keys(calibration))
        kept = np.asarray([key not in known for key in sample_keys(requests)], dtype=np.bool_)
    if not kept.any():
        raise ModelError(
            f"all {requests.samples} requests are calibration samples",
            where=source.where,
            allowed="requests that the candidate was not calibrated with",
        )
    remaining = requests if kept.all() else _chosen(requests, kept)
    return Traffic(
        remaining,
        None if times_s is None else times_s[kept],
        int(np.count_nonzero(~kept)),
        repeated_samples(remaining),
    )


def _chosen(requests: Dataset, kept: NDArray[np.bool_]) -> Dataset:
    return replace(
        requests,
        arrays={name: array[kept] for name, array in requests.arrays.items()},
        labels=None if requests.labels is None else requests.labels[kept],
        samples=int(np.count_nonzero(kept)),
        slices={name: array[kept] for name, array in requests.slices.items()},
    )


def _fit(
    raw: Mapping[str, NDArray[Any]],
    inputs: Collection[TensorSpec],
    where: str,
    slices: tuple[str, ...] | None,
) -> tuple[Dataset, NDArray[np.float64] | None]:
    """Match arrays to a model; return the requests, and their times after the first."""
    arrays = dict(raw)
    names = [spec.name for spec in inputs]
    known = [*names, LABELS, CLASSES, TIMESTAMPS, *(slices or (SLICES,))]
    for name in arrays:
        if name not in known:
            raise ModelError(
                f'array "{name}" is no input of the model',
                where=where,
                allowed=", ".join(known),
                advice=did_you_mean(name, known),
            )
    times = arrays.pop(TIMESTAMPS, None) if TIMESTAMPS not in names else None
    requests = fit_arrays(
        arrays, inputs, where, needs_labels=False, slices=slices, needs_slices=False
    )
    if times is None:
        return requests, None
    if times.dtype.kind not in "iuf" or times.shape != (requests.samples,):
        raise ModelError(
            f'array "{TIMESTAMPS}" is {times.dtype} of shape {times.shape}',
            where=where,
            allowed=f"numbers, the seconds of each of the {requests.samples} requests",
        )
    return requests, times.astype(np.float64) - float(times[0])


def _check_times(times_s: NDArray[np.float64], where: str) -> None:
    wrong = ~np.isfinite(times_s)
    if wrong.any():
        raise ModelError(
            f'"{TIMESTAMPS}" of request {int(np.argmax(wrong))} is not finite',
            where=where,
            allowed="seconds",
        )
    back = np.flatnonzero(np.diff(times_s) < 0)
    if back.size:
        raise ModelError(
            f'"{TIMESTAMPS}" go back at request {int(back[0]) + 1}',
            where=where,
            allowed="requests in the order in which they were recorded",
        )
