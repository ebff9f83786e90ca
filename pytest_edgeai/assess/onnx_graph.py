"""ONNX graphs, nodes and functions as raw records, their names unresolved.

Field numbers: onnx/onnx.proto3 of the ONNX project, messages GraphProto, NodeProto and
FunctionProto.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_edgeai.assess.onnx_tensor import TensorHeader, read_sparse_tensor, read_tensor
from pytest_edgeai.assess.onnx_types import read_value_info
from pytest_edgeai.assess.protobuf import LENGTH, Reader, WireError, tag
from pytest_edgeai.records import TensorSpec

# GraphProto
_GRAPH_NODE = tag(1, LENGTH)
_GRAPH_INITIALIZER = tag(5, LENGTH)
_GRAPH_INPUT = tag(11, LENGTH)
_GRAPH_OUTPUT = tag(12, LENGTH)
_GRAPH_VALUE_INFO = tag(13, LENGTH)
_GRAPH_SPARSE_INITIALIZER = tag(15, LENGTH)
# NodeProto
_NODE_INPUT = tag(1, LENGTH)
_NODE_OUTPUT = tag(2, LENGTH)
_NODE_NAME = tag(3, LENGTH)
_NODE_OP_TYPE = tag(4, LENGTH)
_NODE_ATTRIBUTE = tag(5, LENGTH)
_NODE_DOMAIN = tag(7, LENGTH)
_NODE_OVERLOAD = tag(8, LENGTH)
# FunctionProto
_FUNCTION_NAME = tag(1, LENGTH)
_FUNCTION_INPUT = tag(4, LENGTH)
_FUNCTION_OUTPUT = tag(5, LENGTH)
_FUNCTION_NODE = tag(7, LENGTH)
_FUNCTION_DOMAIN = tag(10, LENGTH)
_FUNCTION_OVERLOAD = tag(13, LENGTH)

# Far above any model; they bound the memory that a crafted file can cost.
_MOST_NODES = 1_000_000
_MOST_TENSORS = 1_000_000

Span: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class RawNode:
    """A NodeProto: names as written, attributes as spans of the file."""

    op_type: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[Span] = field(default_factory=list)
    name: str = ""


@dataclass(slots=True)
class RawGraph:
    """A GraphProto, its subgraphs still inside the attributes of its nodes."""

    nodes: list[RawNode] = field(default_factory=list)
    tensors: list[TensorHeader] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    values: list[TensorSpec] = field(default_factory=list)


@dataclass(slots=True)
class RawFunction:
    """A FunctionProto."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[RawNode] = field(default_factory=list)


class GraphParser:
    """Parses graphs out of one model file, and counts so that a crafted one is refused."""

    def __init__(self, reader: Reader, where: str) -> None:
        """Prepare for one file.

        Args:
            reader: the reader of the file.
            where: the file, for errors.
        """
        self.reader = reader
        self._where = where
        self._nodes_seen = 0
        self._tensors_seen = 0

    def graph(self, spans: Iterable[Span]) -> RawGraph:
        """Parse the GraphProto in ``spans``; several spans are merged, as protobuf defines it."""
        found = RawGraph()
        reader = self.reader
        for start, end in spans:
            for key, a, b in reader.fields(start, end):
                if key == _GRAPH_NODE:
                    found.nodes.append(self.node(a, b))
                elif key == _GRAPH_INITIALIZER:
                    found.tensors.append(self.tensor(a, b))
                elif key == _GRAPH_INPUT:
                    found.inputs.append(self._value_info(a, b))
                elif key == _GRAPH_OUTPUT:
                    found.outputs.append(self._value_info(a, b))
                elif key == _GRAPH_VALUE_INFO:
                    found.values.append(self._value_info(a, b))
                elif key == _GRAPH_SPARSE_INITIALIZER:
                    found.tensors.extend(self.sparse_tensor(a, b))
        return found

    def tensor(self, start: int, end: int) -> TensorHeader:
        """Read the header of a TensorProto."""
        self._count_tensor(start)
        return read_tensor(self.reader, start, end, self._where)

    def sparse_tensor(self, start: int, end: int) -> list[TensorHeader]:
        """Read the header of a SparseTensorProto's values; at most one."""
        self._count_tensor(start)
        values = read_sparse_tensor(self.reader, start, end, self._where)
        return [] if values is None else [values]

    def _value_info(self, start: int, end: int) -> TensorSpec:
        self._count_tensor(start)
        return read_value_info(self.reader, start, end)

    def _count_tensor(self, position: int) -> None:
        self._tensors_seen += 1
        if self._tensors_seen > _MOST_TENSORS:
            raise WireError("more tensors than any model has", position)

    def node(self, start: int, end: int) -> RawNode:
        """Parse a NodeProto."""
        self._nodes_seen += 1
        if self._nodes_seen > _MOST_NODES:
            raise WireError("more operators than any model has", start)
        found = RawNode()
        text = self.reader.text
        for key, a, b in self.reader.fields(start, end):
            if key == _NODE_INPUT:
                found.inputs.append(text(a, b))
            elif key == _NODE_OUTPUT:
                found.outputs.append(text(a, b))
            elif key == _NODE_NAME:
                found.name = text(a, b)
            elif key == _NODE_OP_TYPE:
                found.op_type = text(a, b)
            elif key == _NODE_ATTRIBUTE:
                found.attributes.append((a, b))
            elif key == _NODE_DOMAIN:
                found.domain = text(a, b)
            elif key == _NODE_OVERLOAD:
                found.overload = text(a, b)
        return found

    def function(self, start: int, end: int) -> RawFunction:
        """Parse a FunctionProto."""
        found = RawFunction()
        text = self.reader.text
        for key, a, b in self.reader.fields(start, end):
            if key == _FUNCTION_NODE:
                found.nodes.append(self.node(a, b))
            elif key == _FUNCTION_INPUT:
                found.inputs.append(text(a, b))
            elif key == _FUNCTION_OUTPUT:
                found.outputs.append(text(a, b))
            elif key == _FUNCTION_NAME:
                found.name = text(a, b)
            elif key == _FUNCTION_DOMAIN:
                found.domain = text(a, b)
            elif key == _FUNCTION_OVERLOAD:
                found.overload = text(a, b)
        return found
