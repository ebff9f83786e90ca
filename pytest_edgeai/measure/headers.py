"""Match the arrays of data files to a model by their headers, before any sample is read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.dataset import CLASSES, batching, fit_arrays, npz_headers
from pytest_edgeai.measure.divisions import SLICES
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.specification import DataSource


def read_array(path: Path, name: str) -> NDArray[Any] | None:
    """Return one array of a ``.npz`` file; ``None`` where it is damaged, as the run will say."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError):
        return None


def check_npz_arrays(
    source: DataSource | None,
    inputs: Collection[TensorSpec],
    *,
    needs_labels: bool = False,
    slices: tuple[str, ...] | None = None,
    needs_slices: bool = False,
) -> None:
    """Check what the headers of a ``.npz`` file tell of its fit to a model.

    Data that a callable returns, and the inputs of a model that does not state them, are checked
    when the gates run.

    Args:
        source: where the samples come from.
        inputs: the model's inputs; none where its file does not state them.
        needs_labels: whether a missing ``labels`` array is an error.
        slices: names of the arrays that divide the samples; ``None``: ``slices``, if it is there.
        needs_slices: whether a missing array of ``slices`` is an error.

    Raises:
        ModelError: as :func:`~pytest_edgeai.measure.dataset.load_dataset`.
    """
    if source is None or source.path is None or not inputs:
        return
    # One element stands for all of an array, so that its name, shape and dtype are checked as ever.
    # What divides the samples is small, and its values count.
    arrays = {
        name: np.broadcast_to(np.ones((), dtype), shape)
        for name, (shape, dtype) in npz_headers(source).items()
        if name != CLASSES
    }
    named = {spec.name for spec in inputs}
    for name in slices or (SLICES,):
        if name in arrays and name not in named and arrays[name].ndim == 1:
            array = read_array(source.path, name)
            arrays[name] = arrays[name] if array is None else array
    fitted = fit_arrays(
        arrays,
        inputs,
        source.where,
        needs_labels=needs_labels,
        slices=slices,
        needs_slices=needs_slices,
    )
    # How many samples a call takes has no part in whether a sample fits.
    batching(fitted, inputs, open_batch=1)
