from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.dataset import Dataset
from pytest_edgeai.measure.traffic import Traffic, check_traffic, load_traffic
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.specification import DataSource

INPUTS = (TensorSpec("x", "float32", (None, 2)),)
ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


def source(folder: Path, **arrays: Any) -> DataSource:
    path = folder / "traffic.npz"
    np.savez(path, **arrays)
    return DataSource(path, None, "edgeai.toml [models.m] traffic")


def load(folder: Path, calibration: Dataset | None = None, **arrays: Any) -> Traffic:
    return load_traffic(source(folder, **arrays), INPUTS, directory=folder, calibration=calibration)


def test_requests_keep_their_order_labels_and_times(tmp_path: Path) -> None:
    traffic = load(tmp_path, x=ROWS, labels=np.arange(10), timestamps=np.arange(10) * 2 + 1000)
    assert traffic.requests.samples == 10
    assert traffic.requests.labels is not None
    assert traffic.times_s is not None
    assert traffic.times_s.tolist() == list(range(0, 20, 2))
    assert (traffic.left_out, traffic.repeated) == (0, 0)
    assert load(tmp_path, x=ROWS).times_s is None


def test_calibration_samples_are_left_out_everywhere(tmp_path: Path) -> None:
    calibration = Dataset({"x": ROWS[3:5]}, None, None, 2, "calibration")
    traffic = load(tmp_path, calibration, x=ROWS, labels=np.arange(10), timestamps=np.arange(10.0))
    assert traffic.left_out == 2
    assert traffic.requests.labels is not None
    assert traffic.requests.labels.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert traffic.times_s is not None
    assert traffic.times_s.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert np.array_equal(traffic.requests.arrays["x"][3], ROWS[5])
    with pytest.raises(ModelError, match="all 2 requests are calibration samples"):
        load(tmp_path, calibration, x=ROWS[3:5])


def test_repeated_requests_are_counted(tmp_path: Path) -> None:
    assert load(tmp_path, x=np.concatenate([ROWS, ROWS[:4]])).repeated == 4


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": ROWS}, 'array "z" is no input'),
        ({"x": ROWS, "timestamp": np.arange(10)}, 'did you mean "timestamps"'),
        ({"labels": np.arange(10)}, 'no array "x"'),
        ({"x": ROWS.astype(np.float64)}, "float64 and the model takes float32"),
        ({"x": ROWS, "timestamps": np.arange(9)}, "seconds of each of the 10 requests"),
        ({"x": ROWS, "timestamps": np.asarray(["now"] * 10)}, 'array "timestamps" is <U3'),
        ({"x": ROWS, "labels": np.arange(9)}, "different length"),
        ({"x": ROWS[:0]}, "holds no samples"),
    ],
)
def test_headers_alone_tell_what_does_not_fit(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    given = source(tmp_path, **arrays)
    with pytest.raises(ModelError) as found:
        check_traffic(given, INPUTS)
    assert words.lower() in str(found.value).lower()
    assert str(found.value).startswith("edgeai.toml [models.m] traffic")
    with pytest.raises(ModelError):
        load_traffic(given, INPUTS, directory=tmp_path, calibration=None)


def test_headers_of_good_traffic_and_of_none_are_quiet(tmp_path: Path) -> None:
    check_traffic(source(tmp_path, x=ROWS, labels=np.arange(10), slices=np.arange(10)), INPUTS)
    check_traffic(None, INPUTS)
    check_traffic(DataSource(None, "m:f", "here"), INPUTS)


@pytest.mark.parametrize(("time", "words"), [(np.nan, "not finite"), (-1.0, "go back at request")])
def test_times_have_to_rise(tmp_path: Path, time: float, words: str) -> None:
    times = np.arange(10.0)
    times[4] = time
    with pytest.raises(ModelError, match=words):
        load(tmp_path, x=ROWS, timestamps=times)
