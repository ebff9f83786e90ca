"""Divide evaluation data: a stated part chooses between candidates, the rest judges them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset
from pytest_edgeai.measure.overlap import sample_keys
from pytest_edgeai.specification import Part

_WHOLE = float(1 << 64)


def take_part(dataset: Dataset, part: Part) -> Dataset:
    """Return the samples of one part, in their order.

    A sample belongs to the selection where the first 8 bytes of its digest, as a share of all they
    could be, lie below the part's share. That depends on nothing but the sample: samples that equal
    each other lie in the same part, whatever else the data holds and in whatever order.

    Raises:
        ModelError: a part would be empty.
    """
    chosen = np.asarray(
        [int.from_bytes(key[:8], "big") / _WHOLE < part.share for key in sample_keys(dataset)]
    )
    if chosen.all() or not chosen.any():
        raise ModelError(
            f"{dataset.samples} evaluation samples cannot be divided into {part.share:.0%} for the "
            "search and the rest for the gates",
            where=dataset.where,
            advice='Name selection data of their own with the model\'s "selection" key',
        )
    return take_rows(dataset, np.flatnonzero(chosen == (part.role == "selection")))


def take_rows(dataset: Dataset, rows: NDArray[np.int64]) -> Dataset:
    """Return some samples of a dataset, in the order of ``rows``."""
    return Dataset(
        {name: array[rows] for name, array in dataset.arrays.items()},
        None if dataset.labels is None else dataset.labels[rows],
        dataset.classes,
        len(rows),
        dataset.where,
        {name: array[rows] for name, array in dataset.slices.items()},
    )
