"""Facts of a model file: dispatch, errors, fingerprint, and no framework imported."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from pytest_edgeai.assess.model import fingerprint, read_model, read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import to_json


def test_facts_with_and_without_hash(convolutional: Path) -> None:
    facts = read_model(convolutional)
    assert facts.sha256 == hashlib.sha256(convolutional.read_bytes()).hexdigest()
    quick = read_model(convolutional, with_hash=False)
    assert quick.sha256 == ""
    assert quick.operators == facts.operators
    assert to_json(facts)["weight_elements"] == {"float32": 304}


def test_the_fingerprint_covers_external_data_in_order_of_name(
    convolutional: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(convolutional),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="a.bin",
        size_threshold=64,
    )
    before = read_model(path)
    assert before.files == (path, tmp_path / "a.bin")
    data = bytearray((tmp_path / "a.bin").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.bin").write_bytes(data)
    after = read_model(path)
    assert after.sha256 != before.sha256
    assert fingerprint(reversed(after.files)) == after.sha256


def test_moving_bytes_between_files_changes_the_fingerprint(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    first = fingerprint([a, b])
    a.write_bytes(b"1")
    b.write_bytes(b"23")
    assert fingerprint([a, b]) != first


def test_a_file_that_cannot_be_read_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        fingerprint([tmp_path / "gone.bin"])


def test_the_suffix_is_read_in_any_case(convolutional: Path, tmp_path: Path) -> None:
    path = tmp_path / "MODEL.ONNX"
    path.write_bytes(convolutional.read_bytes())
    assert read_structure(path).format == "onnx"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gone.onnx", "there is no such model file"),
        ("folder.onnx", "is a directory"),
        ("model.tflite", r'suffix "\.tflite"; allowed: \.onnx'),
        ("model", r'suffix ""'),
        ("a\0b.onnx", "model"),
    ],
)
def test_paths_that_are_no_model(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"x")
    (tmp_path / "model").write_bytes(b"x")
    with pytest.raises(ModelError, match=what) as caught:
        read_model(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_facts_imports_no_framework(convolutional: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from pytest_edgeai.assess import model, hardware\n"
        "model.read_model(pathlib.Path(sys.argv[1])); hardware.read_host()\n"
        "wanted = {'onnx', 'onnxruntime', 'openvino', 'nncf', 'torch', 'google', 'scipy'}\n"
        "wanted |= {'gguf', 'safetensors', 'transformers', 'mlx', 'llama_cpp'}\n"
        "print(sorted(wanted & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(convolutional)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


def test_a_directory_is_read_as_a_hugging_face_model(tmp_path: Path) -> None:
    home = tmp_path / "model.onnx"
    home.mkdir()
    with pytest.raises(ModelError, match=r"directory without config\.json; allowed: \.onnx"):
        read_model(home)
    (home / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="holds no weights"):
        read_model(home)


def test_dynamic_inputs_and_the_work_stand_in_the_facts(convolutional: Path) -> None:
    facts = read_model(convolutional)
    assert facts.dynamic_inputs == ("x",)
    assert facts.flops_per_inference is not None
    assert facts.bytes_per_inference is not None
    intensity = facts.flops_per_inference / facts.bytes_per_inference
    assert facts.arithmetic_intensity == intensity
    assert facts.language is None


def test_damaged_onnx_never_crashes_the_count_of_work(convolutional: Path, tmp_path: Path) -> None:
    data = convolutional.read_bytes()
    path = tmp_path / "damaged.onnx"
    random = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        changed = bytearray(data)
        for at in random.integers(0, len(data), 3):
            changed[at] = random.integers(0, 256)
        path.write_bytes(changed)
        try:
            facts = read_model(path, with_hash=False)
        except ModelError:
            continue
        read += 1
        assert facts.workload_note
    assert read > 0
