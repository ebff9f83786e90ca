"""An ONNX graph, indexed by who reads what; constants, shapes and attributes by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array: TypeAlias = NDArray[Any]


class NotRemovableError(Exception):
    """Why the channels of a layer stay."""


class Graph:
    """An ONNX graph, indexed; constants are initializers and outputs of ``Constant``."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Index ``model``, whose tensors have inferred shapes where they can be inferred."""
        self.model = model
        self.nodes = list(model.graph.node)
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants = {
            node.output[0]: node
            for node in self.nodes
            if node.op_type == "Constant" and node.output
        }
        self.outputs = {value.name for value in model.graph.output}
        self.readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.captured: set[str] = set()
        for index, node in enumerate(self.nodes):
            for slot, name in enumerate(node.input):
                if name:
                    self.readers[name].append((index, slot))
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    self.captured |= _names_read(graph)
        self.shapes = dict(_shapes(model.graph))

    def constant(self, name: str) -> Array | None:
        """Return a constant's value; ``None`` for anything else."""
        tensor = self.initializers.get(name)
        node = self.constants.get(name)
        value: Any = None
        if tensor is None and node is not None:
            value = helper.get_attribute_value(node.attribute[0])
            tensor = value if isinstance(value, onnx.TensorProto) else None
        if tensor is not None:
            array: Array = numpy_helper.to_array(tensor)
            return array
        if value is None or isinstance(value, onnx.SparseTensorProto):
            return None
        return np.asarray(value)

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Return the axes of a tensor, ``None`` for an open one.

        Raises:
            NotRemovableError: the number of axes is not known.
        """
        if name not in self.shapes:
            raise NotRemovableError(f'the shape of "{name}" is not known')
        return self.shapes[name]

    def attribute(self, index: int, name: str, default: Any = None) -> Any:
        """Return the value of a node's attribute."""
        for attribute in self.nodes[index].attribute:
            if attribute.name == name:
                return helper.get_attribute_value(attribute)
        return default


def _names_read(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in graph.output}
    for node in graph.node:
        names |= set(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _names_read(inner)
    return names


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            yield (
                value.name,
                tuple(
                    axis.dim_value if axis.HasField("dim_value") else None
                    for axis in kind.shape.dim
                ),
            )
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
