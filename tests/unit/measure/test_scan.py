"""Whole artifacts: healthy ones of every format, and one planted fault for each check."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import write_huggingface
from planted_files import ELF, SYSTEM, Runs

from pytest_edgeai.measure.scan import StaticScan, scan_artifact

onnx = pytest.importorskip("onnx", reason="needs: pip install onnx")
FLOAT = 1


def scan(path: Path, **options: Any) -> StaticScan:
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return scan_artifact(path, files, **options)


def found(path: Path, **options: Any) -> list[tuple[str, str]]:
    """Return check and file of every finding; nothing may be unread."""
    remarks = scan(path, **options).remarks
    assert not [remark for remark in remarks if remark.unread]
    return [(remark.check, remark.where) for remark in remarks]


def unread(path: Path) -> list[str]:
    remarks = scan(path).remarks
    assert all(remark.unread for remark in remarks)
    return [remark.what for remark in remarks]


def write_onnx(path: Path, nodes: list[Any] | None = None, location: str = "", **more: Any) -> Path:
    """Write ``y = x + w``, or other nodes; ``location`` moves the data of ``w`` out of the file."""
    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(name, FLOAT, [1, 2]) for name in "xy")
    weight = helper.make_tensor("w", FLOAT, [2], np.ones(2, np.float32).tobytes(), raw=True)
    if location:
        weight.ClearField("raw_data")
        weight.data_location = 1
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    domains = {"": 17} | {node.domain: 1 for node in nodes if node.domain}
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weight]),
        opset_imports=[helper.make_opsetid(name, version) for name, version in domains.items()],
        **more,
    )
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, domain: str = "", **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)


def write_openvino(folder: Path) -> Path:
    openvino = pytest.importorskip("openvino", reason="needs: pip install openvino")
    model = openvino.convert_model(write_onnx(folder / "source.onnx"))
    (folder / "source.onnx").unlink()
    openvino.save_model(model, folder / "model.xml")
    return folder / "model.xml"


def write_gguf(path: Path, template: str = "{{ messages[0]['content'] }}") -> Path:
    gguf = pytest.importorskip("gguf", reason="needs the gguf package: pip install gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.ones((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_healthy_artifacts_of_every_format_have_no_finding(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(8))
    path = write_onnx(tmp_path / "model.onnx", location="w.data")
    assert found(path) == []
    assert scan(path).settled == scan(path).weights == {"w.data"}
    for name in ("openvino", "gguf", "mlx"):
        (tmp_path / name).mkdir()
    assert found(write_openvino(tmp_path / "openvino")) == []
    assert scan(tmp_path / "openvino" / "model.xml").weights == {"model.bin"}
    assert found(write_gguf(tmp_path / "gguf" / "model.gguf")) == []
    write_huggingface(tmp_path / "mlx")
    assert found(tmp_path / "mlx") == []
    assert "tokenizer.json" in scan(tmp_path / "mlx").settled


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "C:\\x", "link"])
def test_external_data_that_escape_are_found(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    if location == "link":
        (folder / "link").symlink_to(tmp_path / "secret")
    checks = [check for check, _ in found(write_onnx(folder / "m.onnx", location=location))]
    assert checks == (["link", "external"] if location == "link" else ["external"])


def test_external_data_of_a_constant_inside_of_a_branch_are_found(tmp_path: Path) -> None:
    helper = onnx.helper
    tensor = onnx.TensorProto(data_type=FLOAT, dims=[2], data_location=1)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../x"
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=tensor)],
        "b",
        [],
        [helper.make_tensor_value_info("y", FLOAT, [2])],
    )
    path = write_onnx(tmp_path / "m.onnx", [node("If", then_branch=inner, else_branch=inner)])
    assert found(path) == [("external", "m.onnx")]


def test_operators_are_those_that_the_runtime_ships(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert found(write_onnx(path, [node("FusedConv", "com.microsoft")])) == []
    assert found(write_onnx(path, [node("Scaler", "ai.onnx.ml")])) == []
    assert found(write_onnx(path, [node("Evil", "evil.corp")])) == [("operator", "m.onnx")]
    assert found(write_onnx(path, [node("PythonOp", "com.microsoft")])) == [("operator", "m.onnx")]
    library = node("Relu", library=b"/tmp/evil.so".replace(b"/tmp", b"/home"))
    assert found(write_onnx(path, [library])) == [("library", "m.onnx")]
    context = node("EPContext", "com.microsoft", ep_cache_context="../../x.bin")
    assert found(write_onnx(path, [context])) == [("external", "m.onnx")]


def test_functions_that_the_model_defines_are_its_own(tmp_path: Path) -> None:
    function = onnx.helper.make_function(
        "mine", "Twice", ["x"], ["y"], [onnx.helper.make_node("Add", ["x", "x"], ["y"])],
        [onnx.helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [node("Twice", "mine")]
    assert found(write_onnx(tmp_path / "m.onnx", nodes, functions=[function])) == []


def test_an_allow_list_of_operators_is_kept(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", [node("Relu"), node("FusedConv", "com.microsoft")])
    assert found(path, allowed_operators=("Relu", "com.microsoft:*")) == []
    assert found(path, allowed_operators=("Relu", "com.microsoft:FusedConv")) == []
    remarks = scan(path, allowed_operators=("Conv",)).remarks
    assert [remark.what for remark in remarks] == [
        'operator "Relu" is not allowed',
        'operator "com.microsoft:FusedConv" is not allowed',
    ]


def test_a_custom_operator_of_openvino_is_found(tmp_path: Path) -> None:
    path = write_openvino(tmp_path)
    assert found(path, allowed_operators=("Add", "Convert")) == []
    assert found(path, allowed_operators=("Convert",)) == [("operator", "model.xml")]
    text = path.read_text("utf-8").replace('type="Add" version="opset1"', 'type="Mine" version="x"')
    path.write_text(text, "utf-8")
    assert found(path) == [("operator", "model.xml")]
    assert found(path, allowed_operators=("x:Mine", "Convert")) == []
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + text, "utf-8")
    assert found(path) == [("xml", "model.xml")]


def test_a_malicious_template_is_found_wherever_templates_lie(tmp_path: Path) -> None:
    evil = "{{ ''.__class__ }}"
    path = write_gguf(tmp_path / "model.gguf", "x" * 1000 + evil)
    [(check, where)] = found(path)
    assert (check, where) == ("template", "model.gguf tokenizer.chat_template")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "tool", "template": evil}]}), "utf-8"
    )
    (tmp_path / "chat_template.jinja").write_text(evil, "utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_file": "evil.py"}), "utf-8")
    assert sorted(found(path)) == [
        ("code", "config.json"),
        ("template", "chat_template.jinja"),
        ("template", "model.gguf tokenizer.chat_template"),
        ("template", "tokenizer_config.json chat_template tool"),
    ]


def test_programs_are_found_as_files_and_inside_of_them(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(ELF)
    (tmp_path / "run.bin").write_bytes(ELF)
    (tmp_path / "hook.txt").write_bytes(b"#!/bin/sh\ntrue\n")
    what = {remark.where: remark.what for remark in scan(path).remarks if remark.check == "program"}
    assert what == {
        "model.gguf": f"it holds an ELF program from byte {size} on",
        "run.bin": "it is an ELF program",
        "hook.txt": 'it is a script ("#!/bin/sh")',
    }
    assert ("trailing", "model.gguf") in found(path)


def test_pickles_are_found_by_name_and_by_their_first_bytes(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    bad = pickle.dumps(Runs(os.system, "true"))
    (tmp_path / "weights.bin").write_bytes(bad)
    (tmp_path / "notes.txt").write_bytes(bad)
    np.save(tmp_path / "objects.npy", np.array([Runs(os.system, "true")], object))
    np.savez(tmp_path / "objects.npz", a=np.array([Runs(os.system, "true")], object))
    np.savez(tmp_path / "fine.npz", a=np.ones(100))
    pickles = {
        remark.where: remark.what for remark in scan(path).remarks if remark.check == "pickle"
    }
    assert set(pickles) == {"weights.bin", "notes.txt", "objects.npy", "objects.npz!a.npy"}
    assert all(SYSTEM in what for what in pickles.values())


def test_an_archive_behind_a_model_is_found(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    path.write_bytes(path.read_bytes() + (tmp_path / "a.npz").read_bytes())
    assert ("archive", "model.gguf") in found(path)


def test_links_and_strangers_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    path = write_onnx(folder / "model.onnx")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "gone.json").symlink_to("nowhere")
    (folder / "same.onnx").symlink_to("model.onnx")
    (folder / "evil.py").write_text("print()", "utf-8")
    (folder / "lib.so").write_bytes(b"nothing")
    assert sorted(found(path)) == [
        ("link", "gone.json"),
        ("link", "up"),
        ("stranger", "evil.py"),
        ("stranger", "lib.so"),
    ]


def test_the_header_of_a_safetensors_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    good = len(header).to_bytes(8, "little") + header + bytes(4)
    path.write_bytes(good)
    assert found(path) == []
    for bad in ((1 << 60).to_bytes(8, "little") + b"{}", good + b"more", good[:20]):
        path.write_bytes(bad)
        assert found(path) == [("header", "model.safetensors")]


def test_what_cannot_be_read_is_no_finding_but_is_said(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        path.write_bytes(content)
        [what] = unread(path)
        assert what.startswith("it cannot be read: ")
    path.write_bytes(whole)
    (tmp_path / "broken.json").write_text("{", "utf-8")
    assert "no JSON" in unread(path)[0]
    (tmp_path / "broken.json").unlink()
    gguf = write_gguf(tmp_path / "m.gguf")
    gguf.write_bytes(gguf.read_bytes()[:100])
    assert unread(gguf)[0].startswith("it cannot be read")
