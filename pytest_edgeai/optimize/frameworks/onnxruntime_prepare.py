"""ONNX graphs made ready for ONNX Runtime's quantization tools."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx.version_converter
from onnxruntime.quantization.shape_inference import quant_pre_process

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.support import Report, one_line

# DequantizeLinear takes a scale per channel from opset 13 on (docs/Changelog.md of ONNX); 17 is the
# newest that every runtime of the last years knows.
PER_CHANNEL_OPSET = 13
CONVERTED_OPSET = 17

# One protobuf message holds less than 2 GiB; intermediate models carry some more than the source.
_LARGE_BYTES = 3 * 2**29


def with_new_opset(source: Path, folder: Path, report: Report) -> Path:
    """Return a model whose opset can express a scale per channel.

    Raises:
        ModelError: it has an older one, and cannot be converted.
    """
    opset = read_structure(source).opset
    if opset >= PER_CHANNEL_OPSET:
        return source
    try:
        converted = onnx.version_converter.convert_version(onnx.load(source), CONVERTED_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own kinds
        raise ModelError(
            f"opset {opset} has no quantization per channel, and converting to opset "
            f"{CONVERTED_OPSET} failed: {one_line(error)}",
            where=str(source),
            advice=f"Export the model with opset {CONVERTED_OPSET}, or set per_channel = false",
        ) from error
    path = folder / "converted.onnx"
    onnx.save(converted, path)
    report.add(f"converted from opset {opset} to {CONVERTED_OPSET}")
    return path


def preprocess(source: Path, target: Path, folder: Path, report: Report) -> None:
    """Write ``source`` with shapes inferred and the graph optimized, as far as the tools can.

    A float16 model becomes a float32 one between its inputs and outputs: the CPU has no float16
    kernels, so the first pass inserts casts, and the second folds those of the weights away.

    Raises:
        ModelError: not even the plainest preparation works.
    """
    if read_structure(source).weight_elements.get("float16"):
        cast = folder / "cast.onnx"
        _preprocess_once(source, cast, report)
        report.add("float16 weights were converted to float32, which the CPU computes in")
        source = cast
    _preprocess_once(source, target, report)


def _preprocess_once(source: Path, target: Path, report: Report) -> None:
    failures: list[Exception] = []
    attempts: list[tuple[str, dict[str, bool]]] = [
        ("", {}),
        ("without symbolic shape inference", {"skip_symbolic_shape": True}),
        ("without shape inference", {"skip_symbolic_shape": True, "skip_onnx_shape": True}),
    ]
    if importlib.util.find_spec("sympy") is None:
        failures.append(ImportError("sympy is not installed"))
        del attempts[0]
    for how, skipped in attempts:
        try:
            quant_pre_process(
                source,
                target,
                save_as_external_data=is_large(source),
                all_tensors_to_one_file=True,
                external_data_location=f"{target.name}.data",
                **skipped,
            )
        except MemoryError:
            raise
        except Exception as error:  # the tools raise whatever their helpers do
            failures.append(error)
            continue
        if how:
            report.add(f"prepared {how}: {one_line(failures[-1])}")
        return
    raise ModelError(
        f"onnxruntime cannot prepare the model: {one_line(failures[-1])}", where=str(source)
    ) from failures[-1]


def import_opsets_once(path: Path) -> None:
    """Drop repeated imports of one opset, which skl2onnx writes and the quantizer refuses."""
    model = onnx.load(path, load_external_data=False)
    imports = {(entry.domain, entry.version): entry for entry in model.opset_import}
    if len(imports) < len(model.opset_import):
        unique = list(imports.values())
        del model.opset_import[:]
        model.opset_import.extend(unique)
        onnx.save(model, path)


def is_large(source: Path) -> bool:
    """Return whether weights need a file of their own: one protobuf message is below 2 GiB."""
    return read_structure(source).size_bytes > _LARGE_BYTES


def names_of(nodes: Sequence[str]) -> list[str]:
    """Return the names that nodes have once every Gemm became a MatMul and an Add."""
    return [name for node in nodes for name in (node, f"{node}_MatMul")]


def with_named_nodes(source: Path, folder: Path) -> Path:
    """Return a model in which every node has a name, so that options can name every layer.

    A node without one is called after its type and place: ``Conv_3``.
    """
    if all(node.name for node in onnx.load(source, load_external_data=False).graph.node):
        return source
    model = onnx.load(source)
    _name_nodes(model)
    path = folder / "named.onnx"
    large = is_large(source)
    onnx.save(model, path, save_as_external_data=large, location=f"{path.name}.data")
    return path


def name_nodes(path: Path) -> None:
    """Name the nodes in a file that preparing it left without a name."""
    model = onnx.load(path, load_external_data=False)
    if not all(node.name for node in model.graph.node):
        _name_nodes(model)
        onnx.save(model, path)


def _name_nodes(model: onnx.ModelProto) -> None:
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{index}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
