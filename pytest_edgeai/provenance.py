"""What data a model was judged and calibrated with, by digest, and what its values look like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.dataset import LABELS, Dataset, digest_arrays
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.records import JSON

DATA_RECORD = "data"
"""Name of the record in a model's evidence."""
INPUT_RECORD = "inputs"
"""Likewise, of how it is fed."""
MOST_ELEMENTS = 1 << 20
"""Elements of an input whose percentile is taken."""


def data_record(model: PreparedModel) -> dict[str, JSON]:
    """Return ``evaluation`` and ``calibration`` of a model as ``{sha256, samples}``.

    The digest is that of :func:`~pytest_edgeai.measure.dataset.digest_arrays` over the inputs, and
    for the evaluation over its labels too; ``None`` stands for data that there is not.
    """
    return {"evaluation": _facts(model.evaluation), "calibration": _facts(model.calibration)}


def input_record(model: PreparedModel) -> JSON:
    """Return how a model is fed, and what the values of its calibration data look like.

    ``samples_per_call`` and ``batch_is_open``, whether the manifest sets it; of the calibration
    data ``not_finite``, the elements that are NaN or infinite, and ``outlier_ratio``, the largest
    magnitude divided by the 99th percentile of the magnitudes, of the input where it is largest,
    the percentile being that of at most a million elements. ``None``: no calibration data, or none
    of floating-point numbers.
    """
    batching = model.samples.batching
    record: dict[str, JSON] = {
        "samples_per_call": batching.samples_per_call,
        "batch_is_open": model.language is None and not batching.fixed,
        "not_finite": None,
        "outlier_ratio": None,
    }
    ratios = []
    for array in model.calibration.arrays.values() if model.calibration is not None else ():
        if array.dtype.kind != "f" or not array.size or model.language is not None:
            continue
        finite = np.isfinite(array)
        record["not_finite"] = (record["not_finite"] or 0) + int(array.size - finite.sum())
        some = np.abs(array.reshape(-1)[:: math.ceil(array.size / MOST_ELEMENTS)])
        some = some[np.isfinite(some)]
        usual = float(np.quantile(some, 0.99)) if some.size else 0.0
        if usual > 0:
            ratios.append(float(np.max(np.abs(array), where=finite, initial=0)) / usual)
    record["outlier_ratio"] = max(ratios, default=None)
    return record


def _facts(data: Dataset | None) -> JSON:
    if data is None:
        return None
    arrays = dict(data.arrays)
    if data.labels is not None:
        arrays[LABELS] = _plain(data.labels)
    return {"sha256": digest_arrays(arrays), "samples": data.samples}


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as fixed-width values, whose bytes are all of them."""
    return labels.astype(str) if labels.dtype.kind in "OT" else np.asarray(labels)
