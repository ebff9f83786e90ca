"""The test models are what their builders say: valid, executable, as accurate as stated."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import odd_models
import onnx
import pytest

ort = models.require("onnxruntime", "intel")

CLASSIFIERS: dict[str, Callable[[Path], models.Project]] = {
    "linear": models.linear_classifier,
    "dynamic": models.dynamic_batch,
    "fixed1": lambda directory: models.fixed_batch(directory, batch=1, n=60),
    "fixed4": models.fixed_batch,
    "float16": models.float16_classifier,
    "int64": models.int64_classifier,
    "several": models.several_inputs,
    "multi": models.multi_output,
    "strings": models.string_labels,
    "named": models.string_output,
    "external": models.external_data,
    "cnn": models.small_cnn,
    "transformer": models.tiny_transformer,
}
EXECUTABLE = {
    "nested": odd_models.nested_subgraphs,
    "function": odd_models.local_function,
    "sparse": odd_models.sparse_initializer,
    "constants": odd_models.constant_weights,
}


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def predictions(project: models.Project) -> np.ndarray[Any, Any]:
    data = np.load(project.data, allow_pickle=False)
    runner = session(project.model)
    size = project.batch or project.samples
    rows = []
    for start in range(0, project.samples - size + 1, size):
        feed = {name: data[name][start : start + size] for name in project.inputs}
        rows.append(runner.run(None, feed)[0])
    output = np.concatenate(rows)
    if output.dtype == object:
        return np.asarray(output.astype(str))
    found = output.argmax(axis=1)
    return np.asarray(np.array(project.class_names)[found] if project.class_names else found)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_is_as_accurate_as_stated(name: str, tmp_path: Path) -> None:
    project = CLASSIFIERS[name](tmp_path)
    labels = np.load(project.data, allow_pickle=False)["labels"]
    found = predictions(project)
    assert project.name == name
    assert len(labels) == project.samples
    assert project.accuracy >= 0.95
    accuracy = float((found == labels[: len(found)]).mean())
    assert accuracy == pytest.approx(project.accuracy, abs=3 / project.samples)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_data_fits_the_model(name: str, tmp_path: Path) -> None:
    project = CLASSIFIERS[name](tmp_path)
    data, calibration = (
        np.load(path, allow_pickle=False) for path in (project.data, project.calibration)
    )
    runner = session(project.model)
    assert [entry.name for entry in runner.get_inputs()] == list(project.inputs)
    assert tuple(entry.name for entry in runner.get_outputs()) == project.outputs
    assert {name: data[name].dtype.name for name in project.inputs} == dict(project.inputs)
    assert set(calibration.files) == set(project.inputs)

    def rows(arrays: Any) -> set[bytes]:
        count = len(arrays[next(iter(project.inputs))])
        return {b"".join(arrays[key][i].tobytes() for key in project.inputs) for i in range(count)}

    assert not rows(data) & rows(calibration)


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for builder in (models.linear_classifier, models.small_cnn, models.tiny_transformer):
        first, second = builder(tmp_path / "a"), builder(tmp_path / "b")
        for kind in ("model", "data", "calibration"):
            assert getattr(first, kind).read_bytes() == getattr(second, kind).read_bytes()


def test_external_data_lies_in_its_own_file(tmp_path: Path) -> None:
    project = models.external_data(tmp_path)
    companion = tmp_path / "external.onnx.data"
    assert companion.stat().st_size > project.model.stat().st_size
    companion.unlink()
    with pytest.raises(Exception, match="external"):
        session(project.model)


def test_difficulty_lowers_the_accuracy(tmp_path: Path) -> None:
    assert models.linear_classifier(tmp_path, separation=2.0).accuracy < 0.8


def test_cnn_grows_with_its_width(tmp_path: Path) -> None:
    small = models.small_cnn(tmp_path, name="small", width=16)
    large = models.small_cnn(tmp_path, name="large", width=48)
    assert large.model.stat().st_size > 6 * small.model.stat().st_size
    assert min(small.accuracy, large.accuracy) >= 0.95


@pytest.mark.parametrize("name", EXECUTABLE)
def test_odd_model_computes_what_it_says(name: str, tmp_path: Path) -> None:
    odd = EXECUTABLE[name](tmp_path)
    output = session(odd.path).run(None, {"x": np.ones((2, 4), np.float32)})[0]
    assert output.tolist() == [list(odd.output_of_ones or ())] * 2


def test_broken_files_are_refused(tmp_path: Path) -> None:
    whole = models.linear_classifier(tmp_path).model
    for broken in (
        odd_models.truncated(tmp_path, whole),
        odd_models.empty(tmp_path),
        odd_models.not_a_model(tmp_path),
        odd_models.unknown_opset(tmp_path),
    ):
        with pytest.raises(Exception, match=r"(?i)protobuf|parsing|modelproto|opset|load model"):
            session(broken.path)
    assert onnx.load(str(tmp_path / "future.onnx")).opset_import[0].version == 999


def test_manifest_names_what_lies_there(tmp_path: Path) -> None:
    projects = [models.linear_classifier(tmp_path / "m"), models.multi_output(tmp_path / "m")]
    path = models.write_project(tmp_path, projects, "[gates]\nspeedup = 1.5\n")
    manifest = tomllib.loads(path.read_text(encoding="utf-8"))
    assert manifest["gates"] == {"speedup": 1.5}
    assert list(manifest["models"]) == ["linear", "multi"]
    for table in manifest["models"].values():
        assert all((tmp_path / table[key]).is_file() for key in ("path", "data", "calibration"))
        assert not Path(table["path"]).is_absolute()


def test_missing_framework_skips_with_the_command() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"pip install 'pytest-edgeai\[intel\]'"):
        models.require("framework_that_is_nowhere", "intel")
    assert models.require("json", "intel").dumps([]) == "[]"
