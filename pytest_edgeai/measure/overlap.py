"""Samples that repeat each other, within evaluation data and between it and calibration data."""

from __future__ import annotations

import hashlib

import numpy as np

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset


def check_overlap(evaluation: Dataset, calibration: Dataset, what: str = "calibration") -> None:
    """Refuse calibration samples that are evaluation samples, byte by byte over all inputs.

    Args:
        evaluation: the evaluation data.
        calibration: what must share no sample with it.
        what: how the error calls that.

    Raises:
        ModelError: names how many there are and the first of them.
    """
    seen = {key: index for index, key in enumerate(sample_keys(evaluation))}
    shared = [
        (index, seen[key]) for index, key in enumerate(sample_keys(calibration)) if key in seen
    ]
    if shared:
        first = f"{what} sample {shared[0][0]} is evaluation sample {shared[0][1]}"
        raise ModelError(
            f"{len(shared)} of {calibration.samples} {what} samples are evaluation samples "
            f"too ({first})",
            where=calibration.where,
            allowed=f"{what} data that shares no sample with the evaluation data",
        )


def repeated_samples(dataset: Dataset) -> int:
    """Return how many samples equal an earlier one byte by byte, over all inputs."""
    return dataset.samples - len(set(sample_keys(dataset)))


def sample_keys(dataset: Dataset) -> list[bytes]:
    """Return what tells samples apart: a digest of each, over the bytes of all its inputs."""
    names = sorted(dataset.arrays)
    arrays = [np.ascontiguousarray(dataset.arrays[name]) for name in names]
    return [
        hashlib.blake2b(
            b"".join(array[index].tobytes() for array in arrays), digest_size=16
        ).digest()
        for index in range(dataset.samples)
    ]
