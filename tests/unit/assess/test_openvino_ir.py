"""The structure of OpenVINO IR files, with openvino and nncf as the oracle."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_edgeai.assess.openvino_ir import DTYPES, read_openvino
from pytest_edgeai.assess.structure import DTYPE_BITS
from pytest_edgeai.errors import ModelError

ov = pytest.importorskip("openvino")


def dense(path: Path) -> Path:
    """A dense ONNX model, large enough for NNCF to compress."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"w1": (256, 128), "w2": (128, 192)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 192])],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), key)
            for key, shape in shapes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, convolutional: Path) -> dict[str, Path]:
    """IRs that openvino and nncf wrote, by kind."""
    import nncf

    folder = tmp_path_factory.mktemp("openvino")
    random = np.random.default_rng(0)
    samples = [random.normal(size=(1, 3, 16, 16)).astype(np.float32) for _ in range(4)]
    network = ov.convert_model(convolutional)
    compress = nncf.CompressWeightsMode
    flat = dense(folder / "dense.onnx")
    made = {
        "fp32": network,
        "int8": nncf.quantize(network, nncf.Dataset(samples), subset_size=4),
        "int8_asym": nncf.compress_weights(ov.convert_model(flat), mode=compress.INT8_ASYM),
        "int8_sym": nncf.compress_weights(ov.convert_model(flat), mode=compress.INT8_SYM),
    }
    for kind in ("INT4_SYM", "INT4_ASYM"):
        made[kind.lower()] = nncf.compress_weights(
            ov.convert_model(flat),
            mode=getattr(compress, kind),
            group_size=64,
            ratio=1.0,
            all_layers=True,
        )
    paths = {}
    for kind, model in made.items():
        paths[kind] = folder / f"{kind}.xml"
        ov.save_model(model, paths[kind], compress_to_fp16=False)
    paths["fp16"] = folder / "fp16.xml"
    ov.save_model(network, paths["fp16"])
    return paths


DENSE = 256 * 128 + 128 * 192


@pytest.mark.parametrize(
    ("kind", "elements", "operators", "architecture"),
    [
        ("fp32", {"float32": 304}, {}, "convolutional"),
        ("fp16", {"float16": 304}, {}, "convolutional"),
        ("int8", {"float32": 8, "int8": 296}, {"Convolution": 1, "MatMul": 1}, "convolutional"),
        ("int8_asym", {"uint8": DENSE}, {"MatMul": 2}, "other"),
        ("int8_sym", {"int8": DENSE}, {"MatMul": 2}, "other"),
        ("int4_sym", {"int4": DENSE}, {"MatMul": 2}, "other"),
        ("int4_asym", {"uint4": DENSE}, {"MatMul": 2}, "other"),
    ],
)
def test_models_written_by_openvino_and_nncf(
    models: dict[str, Path],
    kind: str,
    elements: dict[str, int],
    operators: dict[str, int],
    architecture: str,
) -> None:
    path = models[kind]
    found = read_openvino(path)
    assert found.weight_elements == elements
    assert found.parameters == sum(elements.values())
    assert found.quantized_operators == operators
    assert found.architecture == architecture
    weights = path.with_suffix(".bin")
    assert found.files == (path, weights)
    assert found.size_bytes == path.stat().st_size + weights.stat().st_size
    model = ov.Core().read_model(path)
    skipped = ("Parameter", "Result", "Constant")
    # The format spells one operator differently from the library.
    spelled = {"Relu": "ReLU"}
    names = [op.get_type_name() for op in model.get_ops()]
    types = Counter(spelled.get(name, name) for name in names)
    assert found.operators == {key: n for key, n in types.items() if key not in skipped}
    for specs, ports in ((found.inputs, model.inputs), (found.outputs, model.outputs)):
        assert [spec.name for spec in specs] == [port.any_name for port in ports]
        for spec, port in zip(specs, ports, strict=True):
            dims = [None if dim.is_dynamic else dim.get_length() for dim in port.partial_shape]
            assert spec.shape == tuple(dims)
            assert spec.dtype == port.element_type.to_dtype().name


def test_names_shapes_and_types_of_ports(tmp_path: Path) -> None:
    from openvino import opset13 as op

    a = op.parameter(ov.PartialShape.dynamic(), np.float32, name="a")
    a.output(0).set_names({"zz", "aa"})
    relu = op.relu(a)
    relu.output(0).set_names({"comma,inside", "second"})
    bounded = op.parameter(ov.PartialShape([ov.Dimension(1, 8), -1, 3]), ov.Type.bf16, name="c")
    path = tmp_path / "ports.xml"
    ov.save_model(ov.Model([relu, op.relu(bounded)], [a, bounded], "m"), path)
    found = read_openvino(path)
    assert [(spec.name, spec.has_shape) for spec in found.inputs] == [("aa", False), ("c", True)]
    assert found.inputs[1].shape == (None, None, 3)
    assert found.inputs[1].dtype == "bfloat16"
    assert found.outputs[0].name == "comma,inside"
    assert not found.outputs[0].has_shape
    assert found.outputs[1].shape == (None, None, 3)


def test_bodies_of_loops_are_read(tmp_path: Path) -> None:
    from openvino import opset13 as op

    x = op.parameter([1, 5, 3], np.float32, name="x")
    step = op.parameter([1, 1, 3], np.float32)
    hidden = op.parameter([1, 4], np.float32)
    weights = [op.constant(np.ones(shape, np.float32)) for shape in ((12, 3), (12, 4))]
    squeezed = op.squeeze(step, op.constant(np.array([1])))
    cell = op.gru_cell(squeezed, hidden, weights[0], weights[1], op.constant(np.ones(12, "f4")), 4)
    body = ov.Model([cell], [step, hidden], "body")
    iterator = op.tensor_iterator()
    iterator.set_body(body)
    iterator.set_sliced_input(step, x.output(0), 0, 1, 1, -1, 1)
    first = op.constant(np.zeros((1, 4), np.float32))
    iterator.set_merged_input(hidden, first.output(0), cell.output(0))
    last = iterator.get_iter_value(cell.output(0), -1)
    path = tmp_path / "loop.xml"
    ov.save_model(ov.Model([last], [x], "m"), path, compress_to_fp16=False)
    found = read_openvino(path)
    assert found.operators == {"GRUCell": 1, "Squeeze": 1, "TensorIterator": 1}
    assert found.architecture == "recurrent"
    assert [spec.name for spec in found.inputs] == ["x"]
    # Two matrices, the bias, and the initial state that the iterator is fed with.
    assert found.parameters == 36 + 48 + 12 + 4


def test_attention(tmp_path: Path) -> None:
    from openvino import opset13 as op

    x = op.parameter([1, 5, 8], np.float32, name="x")
    w = [op.constant(np.full((8, 8), 1 + i, np.float32)) for i in range(3)]
    q, k, v = (op.matmul(x, each, False, False) for each in w)
    y = op.scaled_dot_product_attention(q, k, v)
    path = tmp_path / "attention.xml"
    ov.save_model(ov.Model([y], [x], "m"), path, compress_to_fp16=False)
    assert read_openvino(path).architecture == "transformer"


def test_every_element_type_is_known() -> None:
    assert set(DTYPES.values()) - {"str"} <= set(DTYPE_BITS)
    for name, dtype in DTYPES.items():
        if name not in ("string", "u3", "u6", "u1", "boolean"):
            assert DTYPE_BITS[dtype] == getattr(ov.Type, name).bitwidth


@pytest.fixture
def copied(tmp_path: Path, models: dict[str, Path]) -> Path:
    for suffix in (".xml", ".bin"):
        target = tmp_path / f"model{suffix}"
        target.write_bytes(models["int8"].with_suffix(suffix).read_bytes())
    return tmp_path / "model.xml"


def test_truncated_weights(copied: Path) -> None:
    weights = copied.with_suffix(".bin")
    os.truncate(weights, weights.stat().st_size - 1)
    with pytest.raises(ModelError, match=r"model\.bin is cut short"):
        read_openvino(copied)


def test_missing_weights(copied: Path) -> None:
    copied.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"weights file model\.bin is missing"):
        read_openvino(copied)
    copied.with_suffix(".bin").mkdir()
    with pytest.raises(ModelError, match=r"weights file model\.bin is missing"):
        read_openvino(copied)


def test_every_truncation_of_the_xml_is_refused(copied: Path) -> None:
    data = copied.read_bytes()
    for end in range(0, len(data.rstrip()), 97):
        copied.write_bytes(data[:end])
        with pytest.raises(ModelError, match="empty" if end == 0 else "no XML"):
            read_openvino(copied)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE net SYSTEM "file:///etc/passwd">',
    ],
)
def test_document_types_and_entities_are_refused(
    copied: Path, declaration: str, encoding: str
) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>{declaration}<net version="11"/>'
    copied.write_bytes(head.encode(encoding))
    with pytest.raises(ModelError, match="document type"):
        read_openvino(copied)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('version="11"', 'version="7"', 'version "7"; allowed: 10 and 11'),
        ("<net ", "<html ", "<html>"),
        ('shape="8, 3, 3, 3"', 'shape="8, 3, 3, -3"', 'is "-3", not a number'),
        ('shape="8, 3, 3, 3"', 'shape="8, 3, 3, 9"', "declared with 216 bytes and needs 648"),
        ('size="216"', 'size=""', "not a number"),
        ('type="Result"', 'type="Relu"', "no result"),
    ],
)
def test_what_is_no_model(copied: Path, old: str, new: str, what: str) -> None:
    text = copied.read_text()
    assert old in text
    text = text.replace(old, new)
    if old == "<net ":
        text = text.replace("</net>", "</html>")
    copied.write_text(text)
    with pytest.raises(ModelError, match=re.escape(what)):
        read_openvino(copied)


def test_xml_deeper_than_any_model(copied: Path) -> None:
    copied.write_text("<net>" * 50000)
    with pytest.raises(ModelError, match="deeper or larger"):
        read_openvino(copied)


FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reads_or_refuses(path: Path) -> None:
    message = f"{path}: read"
    try:
        found = read_openvino(path)
    except ModelError as error:
        message = str(error)
    else:
        assert found.outputs
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@FUZZ
@given(st.data())
def test_mutated_models_never_raise_anything_else(copied: Path, data: st.DataObject) -> None:
    original = copied.with_suffix(".orig")
    if not original.exists():
        original.write_bytes(copied.read_bytes())
    text = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        if data.draw(st.booleans()):
            # Digits and quotes keep the XML well-formed often enough to reach the values.
            text[at] = data.draw(st.sampled_from(list(b'0123456789-",. ax<>')))
        else:
            del text[at : at + data.draw(st.integers(1, 40))]
    copied.write_bytes(text)
    reads_or_refuses(copied)


NUMBERS = st.sampled_from(["", "-1", "?", "99999999999999999999", "1e3", "٣", "0", "..."])


@FUZZ
@given(st.data())
def test_mutated_attributes_never_raise_anything_else(copied: Path, data: st.DataObject) -> None:
    original = copied.with_suffix(".orig")
    if not original.exists():
        original.write_bytes(copied.read_bytes())
    text = original.read_text()
    spots = [each.span(1) for each in re.finditer(r'="([^"]*)"', text)]
    spots += [each.span(1) for each in re.finditer(r"<dim>([^<]*)</dim>", text)]
    start, end = data.draw(st.sampled_from(spots))
    copied.write_text(text[:start] + data.draw(NUMBERS) + text[end:])
    reads_or_refuses(copied)
