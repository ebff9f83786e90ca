"""Samples that repeat each other, within evaluation data and between it and calibration data."""

from __future__ import annotations

import hashlib

import numpy as np

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset


def check_overlap(evaluation: Dataset, calibration: Dataset) -> None:
    """Refuse calibration samples that are evaluation samples, byte by byte over all inputs.

    Raises:
        ModelError: names how many there are and the first of them.
    """
    seen = {key: index for index, key in enumerate(_sample_keys(evaluation))}
    shared = [
        (index, seen[key]) for index, key in enumerate(_sample_keys(calibration)) if key in seen
    ]
    if shared:
        first = f"calibration sample {shared[0][0]} is evaluation sample {shared[0][1]}"
        raise ModelError(
            f"{len(shared)} of {calibration.samples} calibration samples are evaluation samples "
            f"too ({first})",
            where=calibration.where,
            allowed="calibration data that shares no sample with the evaluation data",
        )


def repeated_samples(dataset: Dataset) -> int:
    """Return how many samples equal an earlier one byte by byte, over all inputs."""
    return dataset.samples - len(set(_sample_keys(dataset)))


def _sample_keys(dataset: Dataset) -> list[bytes]:
    names = sorted(dataset.arrays)
    arrays = [np.ascontiguousarray(dataset.arrays[name]) for name in names]
    return [
        hashlib.blake2b(
            b"".join(array[index].tobytes() for array in arrays), digest_size=16
        ).digest()
        for index in range(dataset.samples)
    ]
