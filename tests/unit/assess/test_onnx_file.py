"""The structure of ONNX files, with the onnx package as the oracle."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pytest_edgeai.assess.onnx_file import read_onnx
from pytest_edgeai.errors import ModelError

FLOAT = TensorProto.FLOAT
Save: TypeAlias = Callable[..., Path]
DecodeError = importlib.import_module("google.protobuf.message").DecodeError


def value(name: str, shape: Iterable[object] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(name: str, *shape: int, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    found: list[onnx.NodeProto] = []

    def visit(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            found.append(node)
            for attribute in node.attribute:
                for graph in [attribute.g, *attribute.graphs]:
                    visit(graph.node)

    visit(model.graph.node)
    for function in model.functions:
        visit(function.node)
    return found


def shape_of(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in info.type.tensor_type.shape.dim
    )


def agrees_with_onnx(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    found = read_onnx(path)
    graph = model.graph
    initialized = {tensor.name for tensor in graph.initializer}
    initialized |= {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = [info for info in graph.input if info.name not in initialized]
    for specs, infos in ((found.inputs, inputs), (found.outputs, graph.output)):
        assert [spec.name for spec in specs] == [info.name for info in infos]
        for spec, info in zip(specs, infos, strict=True):
            dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            assert spec.dtype == ("str" if dtype.hasobject else dtype.name)
            assert spec.shape == shape_of(info)
    assert found.operators == Counter(node.op_type for node in all_nodes(model))
    assert found.opset == max(each.version for each in model.opset_import if not each.domain)


def test_convolutional_model(convolutional: Path) -> None:
    agrees_with_onnx(convolutional)
    found = read_onnx(convolutional)
    assert found.inputs[0].shape == (None, 3, 16, 16)
    assert found.weight_elements == {"float32": 8 * 27 + 8 + 80}
    assert found.parameters == 304
    assert found.quantized_operators == {}
    assert found.architecture == "convolutional"
    assert found.size_bytes == convolutional.stat().st_size
    assert found.files == (convolutional,)


@pytest.mark.parametrize(
    ("kind", "elements", "operators"),
    [
        ("qdq", {"int8": 296, "int32": 8}, {"Conv": 1, "MatMul": 1}),
        (
            "qoperator",
            {"int8": 296, "int32": 8},
            {"QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QLinearMatMul": 1},
        ),
        ("fake", {"float32": 296, "int32": 8}, {}),
        ("dynamic", {"int8": 128 * 64 + 64 * 32}, {"MatMulInteger": 2}),
    ],
)
def test_models_quantized_by_onnxruntime(
    quantized: dict[str, Path], kind: str, elements: dict[str, int], operators: dict[str, int]
) -> None:
    agrees_with_onnx(quantized[kind])
    found = read_onnx(quantized[kind])
    assert found.weight_elements == elements
    assert found.quantized_operators == operators
    assert found.architecture == ("other" if kind == "dynamic" else "convolutional")


def test_initializers_that_are_inputs_too_need_no_feeding(save: Save) -> None:
    path = save(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [value("x", ["n", 4]), value("w", [4, 3]), value("b", [3])],
        [value("y", None)],
        [weights("w", 4, 3), weights("b", 3)],
        check=False,
    )
    agrees_with_onnx(path)
    found = read_onnx(path)
    assert [spec.name for spec in found.inputs] == ["x"]
    assert found.inputs[0].has_shape
    assert not found.outputs[0].has_shape
    assert found.parameters == 15


def test_subgraphs(save: Save) -> None:
    then = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner"], ["t"])], "then", [], [value("t", [2, 2])],
        [weights("inner", 2, 2)],
    )  # fmt: skip
    constant = helper.make_node("Constant", [], ["k"], value=weights("", 2, 2))
    otherwise = helper.make_graph(
        [constant, helper.make_node("MatMul", ["x", "k"], ["e"])], "else", [], [value("e", [2, 2])]
    )
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["keep"], ["keep_out"]),
            helper.make_node("MatMul", ["state", "carried_weight"], ["state_out"]),
            helper.make_node("Identity", ["carried_weight"], ["carried_out"]),
        ],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("keep", [], TensorProto.BOOL),
            value("state", [2, 2]),
            value("carried_weight", [2, 2]),
        ],
        [
            value("keep_out", [], TensorProto.BOOL),
            value("state_out", [2, 2]),
            value("carried_out", [2, 2]),
        ],
    )
    path = save(
        [
            helper.make_node("If", ["cond"], ["z"], then_branch=then, else_branch=otherwise),
            helper.make_node("Loop", ["trips", "", "z", "loop_weight"], ["y", "l"], body=body),
        ],
        [value("x", [2, 2]), value("cond", [], TensorProto.BOOL)],
        [value("y", [2, 2])],
        [weights("loop_weight", 2, 2), numpy_helper.from_array(np.array(3), "trips")],
    )
    agrees_with_onnx(path)
    found = read_onnx(path)
    assert found.operators == {"Constant": 1, "Identity": 2, "If": 1, "Loop": 1, "MatMul": 3}
    assert found.weight_elements == {"float32": 12}


def test_scan_passes_a_quantized_weight_into_its_body(save: Save) -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["s", "w"], ["p"]),
            helper.make_node("Add", ["p", "e"], ["s_out"]),
            helper.make_node("Identity", ["w"], ["w_out"]),
        ],
        "body",
        [value("s", [2, 2]), value("w", [2, 2]), value("e", [2, 2])],
        [value("s_out", [2, 2]), value("w_out", [2, 2])],
    )
    path = save(
        [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w0"]),
            helper.make_node("Scan", ["s0", "w0", "x"], ["y", "l"], body=body, num_scan_inputs=1),
        ],
        [value("s0", [2, 2]), value("x", [5, 2, 2])],
        [value("y", [2, 2])],
        [weights("q", 2, 2, dtype="int8"), numpy_helper.from_array(np.float32(0.5), "scale")],
    )
    agrees_with_onnx(path)
    found = read_onnx(path)
    assert found.weight_elements == {"int8": 4}
    assert found.quantized_operators == {"MatMul": 1}


def test_functions(save: Save) -> None:
    layer = helper.make_function(
        "local",
        "Layer",
        ["a", "b"],
        ["c"],
        [
            helper.make_node("DequantizeLinear", ["b", "s"], ["d"]),
            helper.make_node("MatMul", ["a", "d"], ["c"]),
        ],
        [helper.make_opsetid("", 21)],
    )
    layer.node.insert(0, helper.make_node("Constant", [], ["s"], value=weights("", *[])))
    path = save(
        [
            helper.make_node("Layer", ["x", "q1"], ["h"], domain="local"),
            helper.make_node("Layer", ["h", "q2"], ["y"], domain="local"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weights("q1", 4, 4, dtype="int8"), weights("q2", 4, 4, dtype="int8")],
        functions=[layer],
        domains=("local",),
    )
    agrees_with_onnx(path)
    found = read_onnx(path)
    assert found.weight_elements == {"int8": 32}
    assert found.quantized_operators == {"MatMul": 1}


def test_sparse_initializer_counts_what_is_stored(save: Save) -> None:
    sparse = helper.make_sparse_tensor(
        weights("w", 3),
        numpy_helper.from_array(np.array([0, 5, 9]), "i"),
        [4, 4],
    )
    path = save(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        sparse_initializer=[sparse],
    )
    agrees_with_onnx(path)
    assert read_onnx(path).weight_elements == {"float32": 3}


@pytest.mark.parametrize(
    ("dtype", "name", "elements"),
    [
        (TensorProto.FLOAT16, "float16", 15),
        (TensorProto.BFLOAT16, "bfloat16", 15),
        (TensorProto.DOUBLE, "float64", 15),
        (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn", 15),
        (TensorProto.FLOAT8E5M2, "float8_e5m2", 15),
        (TensorProto.INT4, "int4", 15),
        (TensorProto.UINT4, "uint4", 15),
        (TensorProto.INT8, "int8", 15),
        (TensorProto.UINT16, "uint16", 15),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_dtypes(save: Save, dtype: int, name: str, elements: int, raw: bool) -> None:
    floating = (
        not helper.tensor_dtype_to_string(dtype)
        .removeprefix("TensorProto.")
        .startswith(("INT", "UINT"))
    )
    if raw:
        numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)
        tensor = numpy_helper.from_array(np.ones((3, 5)).astype(numpy_dtype), "w")
        assert tensor.HasField("raw_data")
    else:
        tensor = helper.make_tensor("w", dtype, [3, 5], [1] * 15)
        assert not tensor.HasField("raw_data")
    assert tensor.data_type == dtype
    plain = floating and not name.startswith("float8")
    first = helper.make_node("Cast", ["w"], ["f"], to=FLOAT)
    if not plain:
        first = helper.make_node("DequantizeLinear", ["w", "s"], ["f"])
    path = save(
        [first, helper.make_node("MatMul", ["x", "f"], ["y"])],
        [value("x", ["n", 3])],
        [value("y", ["n", 5])],
        [tensor, *([] if plain else [numpy_helper.from_array(np.float32(1), "s")])],
    )
    agrees_with_onnx(path)
    found = read_onnx(path)
    assert found.weight_elements == {name: elements}
    assert found.quantized_operators == ({} if plain else {"MatMul": 1})


def test_every_dtype_number_of_the_installed_onnx_is_named() -> None:
    from pytest_edgeai.assess.onnx_tensor import dtype_name
    from pytest_edgeai.assess.structure import DTYPE_BITS

    for name, number in TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING"):
            continue
        expected = helper.tensor_dtype_to_np_dtype(number).name
        assert dtype_name(number) == expected
        assert expected in DTYPE_BITS
    assert dtype_name(99) == "onnx_type_99"


def test_inputs_that_are_no_tensors(save: Save) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, [2])
    path = save(
        [helper.make_node("SequenceLength", ["s"], ["y"])],
        [sequence],
        [value("y", [], TensorProto.INT64)],
    )
    found = read_onnx(path)
    assert found.inputs[0].dtype == "sequence(float32)"
    assert not found.inputs[0].has_shape
    assert found.outputs[0].dtype == "int64"


# External data


@pytest.fixture
def external(tmp_path: Path, convolutional: Path) -> Path:
    path = tmp_path / "external.onnx"
    (tmp_path / "weights").mkdir()
    onnx.save(
        onnx.load(convolutional),
        path,
        save_as_external_data=True,
        location="weights/all.bin",
        size_threshold=64,
    )
    return path


def test_external_data(external: Path) -> None:
    agrees_with_onnx(external)
    found = read_onnx(external)
    data = external.parent / "weights" / "all.bin"
    assert found.files == (external, data)
    assert found.size_bytes == external.stat().st_size + data.stat().st_size
    assert found.weight_elements == {"float32": 304}


def test_external_data_missing(external: Path) -> None:
    (external.parent / "weights" / "all.bin").unlink()
    with pytest.raises(ModelError, match=r'external\.onnx: external data file "weights/all\.bin"'):
        read_onnx(external)


def test_external_data_too_short(external: Path) -> None:
    data = external.parent / "weights" / "all.bin"
    os.truncate(data, data.stat().st_size - 1)
    with pytest.raises(ModelError, match=r"truncated"):
        read_onnx(external)


def relocated(external: Path, **entries: str) -> Path:
    model = onnx.load(external, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    onnx.save(model, external)
    return external


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "weights/../../x", "C:\\x.bin", "\\\\host\\x", "", "a\0b"],
)
def test_external_data_escaping(external: Path, location: str) -> None:
    (external.parent.parent / "secret.bin").write_bytes(bytes(4096))
    with pytest.raises(ModelError, match=r"allowed: a relative path inside"):
        read_onnx(relocated(external, location=location))


def test_external_data_escaping_through_a_link(external: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.bin"
    outside.write_bytes(bytes(1 << 16))
    (tmp_path / "link.bin").symlink_to(outside)
    with pytest.raises(ModelError, match="leads elsewhere"):
        read_onnx(relocated(external, location="link.bin"))
    (tmp_path / "folder.bin").mkdir()
    with pytest.raises(ModelError, match="regular file"):
        read_onnx(relocated(external, location="folder.bin"))


def test_model_and_data_linked_from_one_cache_folder(external: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    (external.parent / "weights" / "all.bin").rename(blobs / "b")
    relocated(external, location="model.onnx_data").rename(blobs / "a")
    (snapshot / "model.onnx").symlink_to(blobs / "a")
    (snapshot / "model.onnx_data").symlink_to(blobs / "b")
    assert read_onnx(snapshot / "model.onnx").parameters == 304


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"offset": "-1"}, 'offset is "-1"'),
        ({"offset": "many"}, 'offset is "many"'),
        ({"length": "9" * 30}, "length is"),
        ({"length": "8"}, "declared as 8"),
        ({"offset": "99999999"}, "reach to byte"),
    ],
)
def test_external_data_with_wrong_extent(
    external: Path, entries: dict[str, str], what: str
) -> None:
    with pytest.raises(ModelError, match=what):
        read_onnx(relocated(external, **entries))


# Damaged files


def test_every_truncation_is_refused(convolutional: Path, tmp_path: Path) -> None:
    data = convolutional.read_bytes()
    path = tmp_path / "cut.onnx"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        try:
            onnx.ModelProto.FromString(data[:end])
            whole = bool(onnx.ModelProto.FromString(data[:end]).graph.output)
        except DecodeError:
            whole = False
        if whole:
            # Cut between two fields after the graph: only the imports are lost.
            read_onnx(path)
        else:
            with pytest.raises(ModelError) as caught:
                read_onnx(path)
            assert str(caught.value).startswith(str(path))
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"not a model at all, but text", "no complete ONNX model"),
        (b"\x89PNG\r\n\x1a\n", "no complete ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "no ONNX graph"),
        (onnx.ModelProto(graph=onnx.GraphProto(name="g")).SerializeToString(), "no output"),
    ],
)
def test_what_is_no_model(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=what):
        read_onnx(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"raw_data": b"\0" * 8}, r'tensor "f" holds 8 bytes; float32\[8, 10\] needs 320'),
        ({"dims": [-8, 10]}, "impossible dimensions"),
        ({"dims": [2**62, 2**62]}, "impossible dimensions"),
        ({"raw_data": None}, "has no data"),
    ],
)
def test_tensors_that_do_not_fit_their_data(
    convolutional: Path, tmp_path: Path, change: dict[str, object], what: str
) -> None:
    model = onnx.load(convolutional)
    tensor = next(each for each in model.graph.initializer if each.name == "f")
    for key, item in change.items():
        tensor.ClearField(key)
        if isinstance(item, list):
            tensor.dims.extend(item)
        elif item is not None:
            setattr(tensor, key, item)
    path = tmp_path / "wrong.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=what):
        read_onnx(path)


def test_nesting_that_no_parser_accepts(tmp_path: Path) -> None:
    def field(number: int, payload: bytes) -> bytes:
        size, head = len(payload), bytearray([number << 3 | 2])
        while size >= 0x80:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes(head) + bytes([size]) + payload

    output = field(12, field(1, b"y"))
    graph = output
    for _ in range(3000):
        graph = output + field(1, field(4, b"If") + field(5, field(6, graph)))
    path = tmp_path / "deep.onnx"
    path.write_bytes(field(7, graph))
    with pytest.raises(ModelError, match="nested deeper"):
        read_onnx(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="no regular file"):
        read_onnx(tmp_path / "pipe.onnx")


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    message = f"{path}: read"
    try:
        found = read_onnx(path)
    except ModelError as error:
        message = str(error)
    else:
        assert found.outputs
        assert found.parameters == sum(found.weight_elements.values())
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "fuzz.onnx", data)


@FUZZ
@given(st.data())
def test_mutated_models(tmp_path: Path, quantized: dict[str, Path], data: st.DataObject) -> None:
    original = bytearray(quantized[data.draw(st.sampled_from(sorted(quantized)))].read_bytes())
    # Most of the bytes are weights; the structure is what is worth damaging.
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(original) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete"]))
        if kind == "set":
            original[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            original[at:at] = data.draw(st.binary(max_size=12))
        else:
            del original[at : at + data.draw(st.integers(1, 12))]
    survives(tmp_path / "fuzz.onnx", bytes(original))


def test_a_large_file_is_mapped_and_its_weights_stay_untouched(tmp_path: Path) -> None:
    size = 256 << 20
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1024, size // 4096])
    path = tmp_path / "large.onnx"
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "large",
            [value("x", ["n", 1024])],
            [value("y", ["n", size // 4096])],
        )
    )
    # A sparse file: the weights are a hole, and protobuf merges the two graph messages.
    head = tensor.SerializeToString()

    def varint(number: int) -> bytes:
        out = bytearray()
        while number >= 0x80:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        return bytes([*out, number])

    raw = b"\x4a" + varint(size)
    inner = b"\x2a" + varint(len(head) + len(raw) + size) + head + raw
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(b"\x3a" + varint(len(inner) + size) + inner)
        file.truncate(file.tell() + size)
    found = read_onnx(path)
    assert found.weight_elements == {"float32": size // 4}
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ModelError, match="1 bytes past the end"):
        read_onnx(path)
