"""The structure of an ONNX model, read from its protobuf fields without touching a weight.

Field numbers: onnx/onnx.proto3 of the ONNX project (https://github.com/onnx/onnx), messages
ModelProto, OperatorSetIdProto and AttributeProto.
"""

from __future__ import annotations

import mmap
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.assess.dataflow import analyze
from pytest_edgeai.assess.onnx_graph import GraphParser, RawGraph, RawNode, Span
from pytest_edgeai.assess.onnx_tensor import ExternalData, TensorHeader
from pytest_edgeai.assess.onnx_workload import onnx_workload
from pytest_edgeai.assess.protobuf import (
    FIXED32,
    LENGTH,
    VARINT,
    Buffer,
    Reader,
    WireError,
    signed,
    tag,
)
from pytest_edgeai.assess.structure import Constant, Dataflow, ModelStructure, Node
from pytest_edgeai.errors import ModelError

# ModelProto
_MODEL_GRAPH = tag(7, LENGTH)
_MODEL_OPSET_IMPORT = tag(8, LENGTH)
_MODEL_FUNCTIONS = tag(25, LENGTH)
# OperatorSetIdProto
_OPSET_DOMAIN = tag(1, LENGTH)
_OPSET_VERSION = tag(2, VARINT)
# AttributeProto
_ATTRIBUTE_NAME = tag(1, LENGTH)
_ATTRIBUTE_I = tag(3, VARINT)
_ATTRIBUTE_T = tag(5, LENGTH)
_ATTRIBUTE_G = tag(6, LENGTH)
_ATTRIBUTE_FLOATS = tag(7, FIXED32)
_ATTRIBUTE_FLOATS_PACKED = tag(7, LENGTH)
_ATTRIBUTE_GRAPHS = tag(11, LENGTH)
_ATTRIBUTE_SPARSE_TENSOR = tag(22, LENGTH)

# protobuf's own parsers refuse messages nested deeper than 100; a subgraph takes three levels.
_DEEPEST_SUBGRAPH = 40
# Small files are cheaper to read than to map.
_MAP_FROM_BYTES = 1 << 20

# com.microsoft operators whose uint8 weights hold several elements a byte: input position, and
# the attribute that gives the bits with its default (docs/ContribOperators.md of ONNX Runtime).
_PACKED_WEIGHTS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "MatMulNBits": ((1,), "bits", 4),
    "GatherBlockQuantized": ((0,), "bits", 4),
    "QMoE": ((2, 5, 8), "expert_weight_bits", 4),
}

_FunctionKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Body:
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Scope:
    """Names of one graph or function, looked up in the enclosing graphs too."""

    def __init__(self, dataflow: Dataflow, parent: _Scope | None = None) -> None:
        self._dataflow = dataflow
        self._parent = parent
        self._values: dict[str, int] = {}

    def define(self, name: str) -> int:
        if name not in self._values:
            self._values[name] = self._dataflow.new_value()
        return self._values[name]

    def resolve(self, name: str) -> int:
        if not name:
            return -1
        scope: _Scope | None = self
        while scope is not None:
            if name in scope._values:
                return scope._values[name]
            scope = scope._parent
        return self.define(name)


def read_onnx(path: Path) -> ModelStructure:
    """Read the structure of an ONNX model.

    Args:
        path: an existing ``.onnx`` file.

    Raises:
        ModelError: if it is empty, truncated, no ONNX model, has no graph or no output, or if its
            external data are missing, too short or outside its directory.
    """
    try:
        with _buffer(path) as (buffer, size_bytes):
            return _ModelReader(path, buffer, size_bytes).read(size_bytes)
    except WireError as error:
        raise ModelError(
            f"this is no complete ONNX model: {error}",
            where=str(path),
            advice="The file is truncated, damaged or of another format: export or copy it again",
        ) from None
    except OSError as error:
        raise ModelError(
            f"the model cannot be read ({error.strerror or error})", where=str(path)
        ) from None


@contextmanager
def _buffer(path: Path) -> Iterator[tuple[Buffer, int]]:
    facts = path.stat()
    # Opening a pipe would wait for its writer.
    if not stat.S_ISREG(facts.st_mode):
        raise ModelError("the model is no regular file", where=str(path))
    if not facts.st_size:
        raise ModelError(
            "the model file is empty", where=str(path), advice="Export or copy it again"
        )
    with path.open("rb") as file:
        if facts.st_size < _MAP_FROM_BYTES:
            data = file.read()
            if data.startswith(b"version https://git-lfs"):
                raise ModelError(
                    "the file is a Git LFS pointer, not the model",
                    where=str(path),
                    advice="Run: git lfs pull",
                )
            yield data, len(data)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped, len(mapped)


class _ModelReader:
    def __init__(self, path: Path, buffer: Buffer, size_bytes: int) -> None:
        self._path = path
        self._where = str(path)
        self._size_bytes = size_bytes
        self._reader = Reader(buffer)
        self._parser = GraphParser(self._reader, str(path))
        self._external = ExternalData(path)
        self._dataflow = Dataflow()
        self._operators: Counter[str] = Counter()
        self._functions: dict[_FunctionKey, _Body] = {}
        self._packed: dict[int, int] = {}

    def read(self, end: int) -> ModelStructure:
        graphs: list[Span] = []
        functions: list[Span] = []
        opset = 0
        for key, a, b in self._reader.fields(0, end):
            if key == _MODEL_GRAPH:
                graphs.append((a, b))
            elif key == _MODEL_FUNCTIONS:
                functions.append((a, b))
            elif key == _MODEL_OPSET_IMPORT:
                opset = self._default_opset(a, b) or opset
        if not graphs:
            raise ModelError(
                "the file holds no ONNX graph", where=self._where, advice="Export the model again"
            )
        graph = self._parser.graph(graphs)
        if not graph.outputs:
            raise ModelError(
                "the ONNX graph has no output", where=self._where, advice="Export the model again"
            )
        self._add_functions(functions)
        self._add_graph(graph, None, 0)
        self._unpack_weights()
        analysis = analyze(self._dataflow)
        initialized = {tensor.name for tensor in graph.tensors}
        return ModelStructure(
            path=self._path,
            format="onnx",
            files=(self._path, *self._external.files),
            size_bytes=self._size_bytes + self._external.size_bytes,
            opset=opset,
            inputs=tuple(spec for spec in graph.inputs if spec.name not in initialized),
            outputs=tuple(graph.outputs),
            operators=dict(sorted(self._operators.items())),
            parameters=sum(analysis.weight_elements.values()),
            weight_elements=analysis.weight_elements,
            quantized_operators=analysis.quantized_operators,
            architecture=analysis.architecture,
            full_precision_weights=analysis.full_precision_weights,
            workload=onnx_workload(graph, self._reader, opset),
        )

    def _default_opset(self, start: int, end: int) -> int:
        domain = ""
        version = 0
        for key, a, b in self._reader.fields(start, end):
            if key == _OPSET_DOMAIN:
                domain = self._reader.text(a, b)
            elif key == _OPSET_VERSION:
                version = signed(a)
        return version if domain in ("", "ai.onnx") else 0

    def _add_functions(self, spans: list[Span]) -> None:
        bodies: list[tuple[_Scope, list[RawNode]]] = []
        for start, end in spans:
            function = self._parser.function(start, end)
            scope = _Scope(self._dataflow)
            key = _function_key(function.domain, function.name, function.overload)
            self._functions[key] = _Body(
                tuple(scope.define(name) for name in function.inputs),
                tuple(scope.define(name) for name in function.outputs),
            )
            bodies.append((scope, function.nodes))
        # A function may call another one, so all of them are known before any body is read.
        for scope, nodes in bodies:
            self._add_nodes(nodes, scope, 0)

    def _add_graph(self, graph: RawGraph, parent: _Scope | None, depth: int) -> _Body:
        scope = _Scope(self._dataflow, parent)
        inputs = tuple(scope.define(spec.name) for spec in graph.inputs)
        for tensor in graph.tensors:
            self._add_constant(tensor, scope.define(tensor.name))
        self._add_nodes(graph.nodes, scope, depth)
        return _Body(inputs, tuple(scope.resolve(spec.name) for spec in graph.outputs))

    def _add_nodes(self, nodes: list[RawNode], scope: _Scope, depth: int) -> None:
        # A subgraph may shadow nothing (names are unique by the specification), so its own
        # results are defined first and everything else is looked up outwards.
        for raw in nodes:
            for name in raw.outputs:
                if name:
                    scope.define(name)
        for raw in nodes:
            node = Node(
                raw.op_type,
                tuple(scope.resolve(name) for name in raw.inputs),
                tuple(scope.resolve(name) for name in raw.outputs),
                raw.name,
            )
            self._operators[raw.op_type] += 1
            self._dataflow.nodes.append(node)
            body = self._functions.get(_function_key(raw.domain, raw.op_type, raw.overload))
            if body is not None:
                self._link(node.inputs, body.inputs)
                self._link(body.outputs, node.outputs)
            self._add_attributes(raw, node, scope, depth)

    def _add_attributes(self, raw: RawNode, node: Node, scope: _Scope, depth: int) -> None:
        reader = self._reader
        is_constant = raw.op_type == "Constant" and bool(node.outputs)
        numbers: dict[str, int] = {}
        for start, end in raw.attributes:
            name = ""
            floats = 0
            for key, a, b in reader.fields(start, end):
                if key == _ATTRIBUTE_NAME:
                    if raw.op_type in _PACKED_WEIGHTS:
                        name = reader.text(a, b)
                elif key == _ATTRIBUTE_I:
                    numbers[name] = signed(a)
                elif key in (_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS):
                    self._add_subgraph((a, b), node, scope, depth + 1)
                elif is_constant:
                    if key == _ATTRIBUTE_T:
                        self._add_constant(self._parser.tensor(a, b), node.outputs[0])
                    elif key == _ATTRIBUTE_SPARSE_TENSOR:
                        for values in self._parser.sparse_tensor(a, b):
                            self._add_constant(values, node.outputs[0])
                    elif key == _ATTRIBUTE_FLOATS:
                        floats += 1
                    elif key == _ATTRIBUTE_FLOATS_PACKED:
                        floats += (b - a) // 4
            if floats:
                constant = Constant(node.outputs[0], "float32", floats, ("inline", start))
                self._dataflow.constants.append(constant)
        if raw.op_type in _PACKED_WEIGHTS:
            positions, attribute, default = _PACKED_WEIGHTS[raw.op_type]
            for position in positions:
                if position < len(node.inputs):
                    self._packed[node.inputs[position]] = numbers.get(attribute, default)

    def _add_subgraph(self, span: Span, node: Node, scope: _Scope, depth: int) -> None:
        if depth > _DEEPEST_SUBGRAPH:
            raise WireError("subgraphs are nested deeper than protobuf allows", span[0])
        body = self._add_graph(self._parser.graph([span]), scope, depth)
        # onnx/defs/controlflow: Loop passes (count, condition, carried...) and its body returns
        # (condition, carried..., scanned...); Scan and If map position by position.
        if node.operator == "Loop":
            self._link(node.inputs[2:], body.inputs[2:])
            self._link(body.outputs[1:], node.outputs)
        elif node.operator == "Scan":
            self._link(node.inputs, body.inputs)
            self._link(body.outputs, node.outputs)
        elif node.operator == "If":
            self._link(body.outputs, node.outputs)

    def _link(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
        pairs = zip(sources, targets, strict=False)
        self._dataflow.links.extend((a, b) for a, b in pairs if a >= 0 and b >= 0)

    def _add_constant(self, tensor: TensorHeader, value: int) -> None:
        if value < 0:
            return
        storage: object = ("inline", tensor.position)
        if tensor.external is not None:
            storage = self._external.check(tensor)
        self._dataflow.constants.append(Constant(value, tensor.dtype, tensor.elements, storage))

    def _unpack_weights(self) -> None:
        for index, constant in enumerate(self._dataflow.constants):
            bits = self._packed.get(constant.value)
            if constant.dtype == "uint8" and bits in (1, 2, 4):
                self._dataflow.constants[index] = Constant(
                    constant.value,
                    f"uint{bits}",
                    constant.elements * 8 // bits,
                    constant.storage,
                )


def _function_key(domain: str, name: str, overload: str) -> _FunctionKey:
    return ("" if domain == "ai.onnx" else domain, name, overload)
