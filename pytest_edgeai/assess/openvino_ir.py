"""The structure of an OpenVINO IR model (``.xml`` with its ``.bin``), weights left unread.

Source: "OpenVINO IR format and operation sets" (https://docs.openvino.ai), and the files that
OpenVINO 2026.4 and NNCF 3.4 write.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pytest_edgeai.assess.dataflow import analyze
from pytest_edgeai.assess.openvino_workload import openvino_workload
from pytest_edgeai.assess.structure import Constant, Dataflow, ModelStructure, Node, stored_bytes
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import TensorSpec

# Element type names of OpenVINO ("Element types" of the specification) as dtype names.
DTYPES: dict[str, str] = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu",
    "f4e2m1": "float4_e2m1fn",
    "nf4": "nf4",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "i4": "int4",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "u6": "uint6",
    "u4": "uint4",
    "u3": "uint3",
    "u2": "uint2",
    "u1": "uint1",
    "boolean": "bool",
    "string": "str",
}
# Ports state their precision in upper case, some under older names than element types.
_PRECISIONS = {"fp64": "f64", "fp32": "f32", "fp16": "f16", "bool": "boolean"}
# u3 and u6 split an element over planes, rounded up per group; a lower bound is not exact there.
_INEXACT = frozenset({"uint3", "uint6"})
# OpenVINO reads versions 10 and 11; earlier ones belong to releases before 2020.4.
_VERSIONS = ("10", "11")
_MOST_ELEMENTS = 2_000_000
_DEEPEST = 100
_LARGEST_COUNT = 1 << 62
# Metadata that no fact is read from; it can be larger than the graph.
_SKIPPED = frozenset({"rt_info", "meta_data"})
_DAMAGED = "The file is damaged: convert the model again"
_DYNAMIC_RANK = "..."
_EXTENT = re.compile(r"[0-9]{1,18}")


def read_openvino(path: Path) -> ModelStructure:
    """Read the structure of an OpenVINO IR model.

    Args:
        path: an existing ``.xml`` file; its weights lie beside it with the suffix ``.bin``.

    Raises:
        ModelError: if the XML is malformed, declares a document type, is no IR of version 10 or 11
            or has no result, or if the ``.bin`` file is missing or too short.
    """
    root = _parse(path)
    if root.tag != "net":
        raise ModelError(
            f"the XML holds <{root.tag[:40]}>, not an OpenVINO model (<net>)",
            where=str(path),
            advice="Name the .xml file that openvino.save_model wrote",
        )
    version = root.get("version", "")
    if version not in _VERSIONS:
        raise ModelError(
            f'the OpenVINO IR has version "{version[:20]}"',
            where=str(path),
            allowed=" and ".join(_VERSIONS),
            advice="Convert the model again with openvino.convert_model",
        )
    return _IRReader(path).read(root)


def _parse(path: Path) -> Element:
    """Parse the XML without document types or entities: they are how XML bombs work."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0
    elements = 0
    skipped_from = 0

    def refuse(*_: object) -> NoReturn:
        raise ModelError(
            "the XML declares a document type or an entity, which no OpenVINO model does",
            where=str(path),
            advice="Do not use this file: convert the model again",
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements, skipped_from
        depth += 1
        elements += 1
        if depth > _DEEPEST or elements > _MOST_ELEMENTS:
            raise ModelError(
                "the XML is deeper or larger than any OpenVINO model",
                where=str(path),
                advice=_DAMAGED,
            )
        if not skipped_from and tag in _SKIPPED:
            skipped_from = depth
        if not skipped_from:
            builder.start(tag, attributes)

    def text(data: str) -> None:
        if not skipped_from:
            builder.data(data)

    def end(tag: str) -> None:
        nonlocal depth, skipped_from
        if not skipped_from:
            builder.end(tag)
        elif skipped_from == depth:
            skipped_from = 0
        depth -= 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except OSError as error:
        raise ModelError(
            f"the model cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        what = "the model file is empty" if not path.stat().st_size else f"no XML: {error}"
        raise ModelError(
            what,
            where=str(path),
            advice="The file is truncated or damaged: convert or copy it again",
        ) from None


class _IRReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._bin = path.with_suffix(".bin")
        self._bin_bytes: int | None = None
        self._dataflow = Dataflow()
        self._operators: Counter[str] = Counter()
        self._stored: dict[str, tuple[object, int]] = {}

    def read(self, root: Element) -> ModelStructure:
        layers = root.findall("layers/layer")
        self._add_graph(root)
        # Ids of layers are unique in one graph; bodies of loops count theirs from zero again.
        self._stored = {
            layer.get("id", ""): (
                (data.get("offset"), data.get("size")),
                int(data.get("size", "0")),
            )
            for layer in layers
            if layer.get("type") == "Const" and (data := layer.find("data")) is not None
        }
        inputs = tuple(self._input(layer) for layer in layers if layer.get("type") == "Parameter")
        outputs = self._outputs(root, layers)
        if not outputs:
            raise self._error("the OpenVINO model has no result")
        analysis = analyze(self._dataflow)
        with_weights = self._bin_bytes is not None
        return ModelStructure(
            path=self._path,
            format="openvino",
            files=(self._path, self._bin) if with_weights else (self._path,),
            size_bytes=self._path.stat().st_size + (self._bin_bytes or 0),
            opset=0,
            inputs=inputs,
            outputs=outputs,
            operators=dict(sorted(self._operators.items())),
            parameters=sum(analysis.weight_elements.values()),
            weight_elements=analysis.weight_elements,
            quantized_operators=analysis.quantized_operators,
            architecture=analysis.architecture,
            full_precision_weights=analysis.full_precision_weights,
            workload=openvino_workload(root, self._stored, _port_dtype),
        )

    def _add_graph(self, graph: Element) -> None:
        values: dict[tuple[str, str], int] = {}
        feeds: dict[tuple[str, str], int] = {}

        def value(layer: str, port: str) -> int:
            key = (layer, port)
            if key not in values:
                values[key] = self._dataflow.new_value()
            return values[key]

        for edge in graph.findall("edges/edge"):
            source = value(edge.get("from-layer", ""), edge.get("from-port", ""))
            feeds[(edge.get("to-layer", ""), edge.get("to-port", ""))] = source
        for layer in graph.findall("layers/layer"):
            name = layer.get("id", "")
            operator = layer.get("type", "")
            outputs = tuple(
                value(name, port.get("id", "")) for port in layer.findall("output/port")
            )
            if operator == "Const":
                self._add_constant(layer, outputs)
            elif operator not in ("Parameter", "Result"):
                ports = [port.get("id", "") for port in layer.findall("input/port")]
                inputs = tuple(feeds.get((name, port), -1) for port in ports)
                self._operators[operator] += 1
                called = layer.get("name", "")
                self._dataflow.nodes.append(Node(operator, inputs, outputs, called))
            for child in layer:
                # TensorIterator and Loop have a body, If has a then_body and an else_body.
                if child.tag == "body" or child.tag.endswith("_body"):
                    self._add_graph(child)

    def _add_constant(self, layer: Element, outputs: tuple[int, ...]) -> None:
        data = layer.find("data")
        name = layer.get("name", "")
        if data is None:
            raise self._error(f'constant "{name}" has no data')
        dtype = self._dtype(data)
        elements = 1
        for extent in _split(data.get("shape", "")):
            elements *= self._number(extent, f'shape of constant "{name}"')
            if elements > _LARGEST_COUNT:
                raise self._error(f'constant "{name}" has impossible dimensions')
        offset = self._number(data.get("offset", ""), f'offset of constant "{name}"')
        size = self._number(data.get("size", ""), f'size of constant "{name}"')
        needed = stored_bytes(dtype, elements)
        if needed is not None and size < needed and dtype not in _INEXACT:
            raise self._error(f'constant "{name}" is declared with {size} bytes and needs {needed}')
        if size and offset + size > self._weights():
            raise ModelError(
                f'constant "{name}" reaches to byte {offset + size}, '
                f"{self._bin.name} has {self._weights()} bytes",
                where=str(self._path),
                advice=f"The file {self._bin.name} is cut short or of another model: copy both",
            )
        if outputs:
            constant = Constant(outputs[0], dtype, elements, (offset, size))
            self._dataflow.constants.append(constant)

    def _weights(self) -> int:
        if self._bin_bytes is None:
            try:
                self._bin_bytes = self._bin.stat().st_size
                regular = self._bin.is_file()
            except OSError:
                regular = False
            if not regular:
                raise ModelError(
                    f"the weights file {self._bin.name} is missing",
                    where=str(self._path),
                    advice="Copy it beside the .xml file",
                )
        return self._bin_bytes or 0

    def _input(self, layer: Element) -> TensorSpec:
        data = layer.find("data")
        if data is None:
            raise self._error(f'input "{layer.get("name", "")}" has no data')
        names = _names(layer.find("output/port"))
        name = names[0] if names else layer.get("name", "")
        return _spec(name, self._dtype(data), _split(data.get("shape", "")))

    def _outputs(self, root: Element, layers: list[Element]) -> tuple[TensorSpec, ...]:
        by_id = {layer.get("id", ""): layer for layer in layers}
        sources = {
            (edge.get("to-layer", ""), edge.get("to-port", "")): edge
            for edge in root.findall("edges/edge")
        }
        specs: list[TensorSpec] = []
        for layer in layers:
            if layer.get("type") != "Result":
                continue
            edge = sources.get((layer.get("id", ""), "0"))
            producer = by_id.get(edge.get("from-layer", "")) if edge is not None else None
            if edge is None or producer is None:
                raise self._error(f'result "{layer.get("name", "")}" is connected to nothing')
            port = next(
                (
                    each
                    for each in producer.findall("output/port")
                    if each.get("id") == edge.get("from-port")
                ),
                None,
            )
            names = _split_names(layer.get("output_names", "")) or _names(port)
            name = names[0] if names else producer.get("name", "")
            specs.append(self._output(name, port))
        return tuple(specs)

    def _output(self, name: str, port: Element | None) -> TensorSpec:
        if port is None:
            raise self._error(f'output "{name}" is connected to nothing')
        dtype = _port_dtype(port.get("precision", "").lower())
        parts = [(dim.text or "").strip() for dim in port.findall("dim")]
        # A scalar's port and one of unknown rank look the same, so neither states a shape.
        return _spec(name, dtype, parts or [_DYNAMIC_RANK])

    def _dtype(self, data: Element) -> str:
        name = data.get("element_type", "")
        return DTYPES.get(name, f"openvino_{name[:20]}")

    def _number(self, text: str, what: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._error(f'{what} is "{text[:40]}", not a number')
        return int(text)

    def _error(self, what: str) -> ModelError:
        return ModelError(what, where=str(self._path), advice=_DAMAGED)


def _port_dtype(precision: str) -> str:
    return DTYPES.get(_PRECISIONS.get(precision, precision), f"openvino_{precision[:20]}")


def _spec(name: str, dtype: str, parts: list[str]) -> TensorSpec:
    if _DYNAMIC_RANK in parts:
        return TensorSpec(name, dtype, (), has_shape=False)
    # Anything but a plain extent is dynamic: "?", "-1", or bounds such as "1..8".
    extents = tuple(int(part) if _EXTENT.fullmatch(part) else None for part in parts)
    return TensorSpec(name, dtype, extents)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _names(port: Element | None) -> list[str]:
    return [] if port is None else _split_names(port.get("names", ""))


def _split_names(text: str) -> list[str]:
    """Split a list of tensor names; a backslash marks a comma that belongs to a name."""
    return [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text) if part]
