from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.measure.dataset import (
    Dataset,
    batching,
    check_npz_header,
    digest_arrays,
    import_reference,
    load_dataset,
    npz_headers,
    stage_arrays,
)
from pytest_edgeai.measure.overlap import check_overlap, repeated_samples
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.specification import DataSource

Array = NDArray[Any]
WHERE = "edgeai.toml [models.m] data"
X = TensorSpec("x", "float32", (None, 3))


def saved(directory: Path, **arrays: Array) -> DataSource:
    path = directory / "test.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return DataSource(path, None, WHERE)


def load(source: DataSource, *inputs: TensorSpec, needs_labels: bool = True) -> Dataset:
    directory = source.path.parent if source.path else Path()
    return load_dataset(source, inputs or (X,), directory=directory, needs_labels=needs_labels)


def data(**arrays: Array) -> Dataset:
    return Dataset(arrays, None, None, len(next(iter(arrays.values()))), WHERE)


def zeros(*shape: int, dtype: str = "f4") -> Array:
    return np.zeros(shape, dtype)


@given(
    hnp.arrays(
        dtype=st.one_of(
            hnp.floating_dtypes(),
            hnp.integer_dtypes(),
            hnp.boolean_dtypes(),
            hnp.unicode_string_dtypes(),
        ),
        shape=hnp.array_shapes(max_dims=3, max_side=4),
        elements=None,
    )
)
def test_headers_tell_shape_and_dtype(
    tmp_path_factory: pytest.TempPathFactory, array: Array
) -> None:
    source = saved(tmp_path_factory.mktemp("npz"), x=array)
    assert npz_headers(source) == {"x": (array.shape, array.dtype)}
    check_npz_header(source)


@given(st.data())
def test_a_damaged_file_is_refused_or_read_whole(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    source = saved(tmp_path_factory.mktemp("npz"), x=zeros(4, 3), labels=np.arange(4))
    assert source.path is not None
    content = bytearray(source.path.read_bytes())
    position = draw.draw(st.integers(0, len(content) - 1))
    if draw.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= draw.draw(st.integers(1, 255))
    source.path.write_bytes(content)
    try:
        dataset = load(source)
    except ModelError as error:
        refusal = str(error)
    else:
        refusal = WHERE
        assert dataset.samples == 4
    assert refusal.startswith(WHERE)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, x=zeros(4, 3), labels=np.arange(4))
    assert source.path is not None
    content = bytearray(source.path.read_bytes())
    flags = content.index(b"PK\x01\x02") + 8
    content[flags] |= 1
    source.path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a readable \.npz file .*encrypted"):
        load(source)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, zeros(2, 3), version=version)
    with zipfile.ZipFile(tmp_path / "test.npz", "w") as archive:
        archive.writestr("x.npy", content.getvalue())
    source = DataSource(tmp_path / "test.npz", None, WHERE)
    assert npz_headers(source)["x"] == ((2, 3), np.dtype("f4"))
    assert load(source, needs_labels=False).samples == 2


def test_samples_labels_and_classes(tmp_path: Path) -> None:
    source = saved(
        tmp_path, x=zeros(2, 3), labels=np.array(["a", "b"]), classes=np.array(["b", "a"])
    )
    dataset = load(source)
    assert dataset.samples == 2
    assert dataset.classes == ("b", "a")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["a", "b"]
    assert list(dataset.arrays) == ["x"]


def test_foreign_byte_order_becomes_this_machines(tmp_path: Path) -> None:
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    dataset = load(saved(tmp_path, x=values, labels=np.arange(2, dtype=">i8")))
    assert dataset.arrays["x"].dtype.isnative
    assert dataset.labels is not None
    assert dataset.labels.dtype.isnative
    np.testing.assert_array_equal(dataset.arrays["x"], values)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": zeros(2, 3)}, 'no array "labels"'),
        ({"labels": zeros(2)}, 'no array "x"; allowed: one array per model input: x'),
        (
            {"x": zeros(2, 3), "y": zeros(2), "labels": zeros(2)},
            'array "y" is no input of the model',
        ),
        (
            {"x": zeros(2, 3, dtype="f8"), "labels": zeros(2)},
            "is float64 and the model takes float32",
        ),
        ({"x": zeros(2, 3), "labels": zeros(3)}, r"different length \(x 2, labels 3\)"),
        ({"x": zeros(0, 3), "labels": zeros(0)}, "has no samples"),
        ({"x": zeros(2, 3), "labels": np.array([None, 1])}, "holds pickled objects"),
        ({"x": zeros(2, 3), "labels": zeros(2), "classes": np.array(["a", "a"])}, '"classes" is'),
        ({"x": zeros(2, 3), "labels": zeros(2), "classes": np.array("a")}, '"classes" is'),
    ],
    ids=range(9),
)
def test_what_does_not_fit(tmp_path: Path, arrays: dict[str, Array], expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        load(saved(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("shape", "samples", "open_batch", "batch", "fixed"),
    [
        ((None, 3), (7, 3), 1, 1, False),
        ((None, 3), (7, 3), 5, 5, False),
        ((4, 3), (7, 3), 5, 4, True),
        ((3,), (7, 3), 5, None, True),
        ((None, None), (7, 9), 2, 2, False),
        ((), (7,), 1, None, True),
    ],
    ids=range(6),
)
def test_batching(
    shape: tuple[int | None, ...],
    samples: tuple[int, ...],
    open_batch: int,
    batch: int | None,
    fixed: bool,
) -> None:
    spec = TensorSpec("x", "float32", shape)
    plan = batching(data(x=zeros(*samples)), (spec,), open_batch=open_batch)
    assert (plan.batch, plan.fixed) == (batch, fixed)
    assert plan.samples_per_call == (batch or 1)


@pytest.mark.parametrize("samples", [(7, 2), (7,), (7, 3, 1, 1)], ids=str)
def test_shapes_that_do_not_fit(samples: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="axis 0 counts the samples"):
        batching(data(x=zeros(*samples)), (X,), open_batch=1)


def test_inputs_must_agree_about_the_batch() -> None:
    specs = (TensorSpec("x", "float32", (4, 3)), TensorSpec("y", "float32", (2, 3)))
    with pytest.raises(ModelError, match=r"disagree about the batch \(x 4, y 2\)"):
        batching(data(x=zeros(8, 3), y=zeros(8, 3)), specs, open_batch=1)
    mixed = (TensorSpec("x", "float32", (4, 3)), TensorSpec("y", "float32", (None, 3)))
    assert batching(data(x=zeros(8, 3), y=zeros(8, 3)), mixed, open_batch=1).batch == 4


@given(st.integers(0, 5), st.integers(0, 5))
def test_overlap_counts_shared_samples(shared: int, own: int) -> None:
    evaluation = np.arange(30, dtype="f4").reshape(10, 3)
    calibration = np.concatenate(
        [-1 - np.arange(own * 3, dtype="f4").reshape(own, 3), evaluation[:shared]]
    )
    if not len(calibration):
        return
    if shared:
        with pytest.raises(ModelError, match=f"{shared} of {own + shared} calibration samples"):
            check_overlap(data(x=evaluation), data(x=calibration))
    else:
        check_overlap(data(x=evaluation), data(x=calibration))


def test_samples_overlap_only_where_every_input_does() -> None:
    evaluation = data(x=zeros(2, 3), y=np.array([[1.0], [2.0]], "f4"))
    check_overlap(evaluation, data(x=zeros(1, 3), y=np.array([[3.0]], "f4")))
    with pytest.raises(ModelError, match="calibration sample 0 is evaluation sample 1"):
        check_overlap(evaluation, data(x=zeros(1, 3), y=np.array([[2.0]], "f4")))


def test_repeated_samples_equal_an_earlier_one_in_every_input() -> None:
    own = np.arange(6, dtype="f4").reshape(2, 3)
    assert repeated_samples(data(x=own)) == 0
    assert repeated_samples(data(x=np.concatenate([own] * 4))) == 6
    flag = np.array([[0.0], [1.0]], "f4")
    assert repeated_samples(data(x=zeros(2, 3), y=flag)) == 0


def test_the_digest_covers_names_dtypes_shapes_and_bytes() -> None:
    base = zeros(2, 3)
    digests = {
        digest_arrays({"x": base}),
        digest_arrays({"y": base}),
        digest_arrays({"x": base.astype("i4")}),
        digest_arrays({"x": base.reshape(3, 2)}),
        digest_arrays({"x": base + 1}),
        digest_arrays({"x": base, "y": base}),
    }
    assert len(digests) == 6
    assert digest_arrays({"x": base, "y": base}) == digest_arrays({"y": base, "x": base})
    assert digest_arrays({"x": np.asfortranarray(base)}) == digest_arrays({"x": base})


def test_staged_arrays_can_be_mapped(tmp_path: Path) -> None:
    arrays = {"x": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)), "y/z": zeros(2)}
    paths = stage_arrays(arrays, tmp_path / "deep" / "place")
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(paths[name], mmap_mode="r"), array)


def test_staging_below_a_file_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        stage_arrays({"x": zeros(1)}, tmp_path / "file" / "place")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise ValueError('boom')", r"cannot be imported \(ValueError: boom\)"),
        ("raise SystemExit(3)", r"cannot be imported \(SystemExit: 3\)"),
        ("def load(:", r"cannot be imported \(SyntaxError"),
        ("other = 1", r"cannot be imported \(AttributeError"),
        ("def load(): raise SystemExit(3)", "raised SystemExit: 3"),
        ("def load(): return [1]", "returned no mapping"),
        ("def load(): return {'x': [1]}", "returned no mapping"),
    ],
    ids=range(7),
)
def test_callables_that_give_no_data(
    tmp_path: Path, request: pytest.FixtureRequest, code: str, expected: str
) -> None:
    module = f"source_{request.node.callspec.indices['code']}"
    (tmp_path / f"{module}.py").write_text(code)
    source = DataSource(None, f"{module}:load", WHERE)
    with pytest.raises(ModelError, match=expected):
        load_dataset(source, (X,), directory=tmp_path, needs_labels=True)


def test_references_reach_attributes_and_leave_the_path_alone(tmp_path: Path) -> None:
    import sys

    (tmp_path / "attributes_here.py").write_text("class A:\n    value = 3\n")
    before = list(sys.path)
    assert import_reference("attributes_here:A.value", tmp_path, WHERE) == 3
    assert sys.path == before
