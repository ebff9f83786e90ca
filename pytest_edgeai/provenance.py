"""What data a model was judged and calibrated with, by digest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.dataset import LABELS, Dataset, digest_arrays
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.records import JSON

DATA_RECORD = "data"
"""Name of the record in a model's evidence."""


def data_record(model: PreparedModel) -> dict[str, JSON]:
    """Return ``evaluation`` and ``calibration`` of a model as ``{sha256, samples}``.

    The digest is that of :func:`~pytest_edgeai.measure.dataset.digest_arrays` over the inputs, and
    for the evaluation over its labels too; ``None`` stands for data that there is not.
    """
    return {"evaluation": _facts(model.evaluation), "calibration": _facts(model.calibration)}


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
