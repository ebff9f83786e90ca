"""What an ONNX model asks of its runtime: operators, their domains, and files beside it.

Field numbers: onnx/onnx.proto3 of the ONNX project, messages ModelProto and AttributeProto. Domains
of ONNX Runtime: include/onnxruntime/core/graph/constants.h.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.assess.onnx_graph import GraphParser, RawNode
from pytest_edgeai.assess.onnx_tensor import ExternalData, TensorHeader
from pytest_edgeai.assess.protobuf import LENGTH, Buffer, Reader, WireError, tag
from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.scan_archives import Remark
from pytest_edgeai.measure.scan_models import is_allowed, leads_out, unread

_MODEL_GRAPH = tag(7, LENGTH)
_MODEL_FUNCTIONS = tag(25, LENGTH)
_ATTRIBUTE_NAME = tag(1, LENGTH)
_ATTRIBUTE_S = tag(4, LENGTH)
_ATTRIBUTE_T = tag(5, LENGTH)
_ATTRIBUTE_G = tag(6, LENGTH)
_ATTRIBUTE_STRINGS = tag(9, LENGTH)
_ATTRIBUTE_TENSORS = tag(10, LENGTH)
_ATTRIBUTE_GRAPHS = tag(11, LENGTH)
_DEEPEST = 40
_LONGEST_WORD = 1024

SHIPPED_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.dml",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
"""Domains whose operators are part of ONNX Runtime itself."""

CODE_OPERATORS = frozenset({"PythonOp", "PythonOpGrad", "PyOp", "PyCustomOp", "ATen"})
"""Operators that call Python or another library, whatever their domain."""
_CONTEXT_OPERATOR = "EPContext"
_LIBRARY_SUFFIXES = (".so", ".dll", ".dylib", ".pyd", ".py", ".pyc")


@dataclass
class _Seen:
    operators: dict[tuple[str, str], None] = field(default_factory=dict)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: list[TensorHeader] = field(default_factory=list)
    libraries: dict[str, None] = field(default_factory=dict)
    contexts: dict[str, None] = field(default_factory=dict)


def scan_onnx(
    path: Path, name: str, allowed: Iterable[str] | None
) -> tuple[list[Remark], frozenset[Path]]:
    """Return what is wrong with an ONNX model, and the files that its external data lie in.

    Args:
        path: the ``.onnx`` file.
        name: how the file is called.
        allowed: the operators that it may hold; ``None``: those that come with the runtime.
    """
    seen = _Seen()
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ModelError("the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _read(mapped, len(mapped), str(path), seen)
    except ModelError as error:
        return [unread(name, error)], frozenset()
    except WireError as error:
        return [unread(name, ModelError(f"this is no complete ONNX model: {error}"))], frozenset()
    remarks = [*_operators(name, seen, allowed)]
    for word in seen.libraries:
        remarks.append(Remark("library", name, f'an attribute names the library "{word[:80]}"'))
    for word in seen.contexts:
        if leads_out(word, path.parent):
            remarks.append(Remark("external", name, f'a compiled part lies at "{word[:80]}"'))
    external = ExternalData(path)
    for tensor in seen.external:
        try:
            external.check(tensor)
        except ModelError as error:
            remarks.append(Remark("external", name, error.what))
            break
    return remarks, frozenset(external.files)


def _operators(name: str, seen: _Seen, allowed: Iterable[str] | None) -> Iterator[Remark]:
    for domain, operator in seen.operators:
        spelled = f"{domain}:{operator}" if domain else operator
        if allowed is not None:
            if not is_allowed(operator, "" if domain == "ai.onnx" else domain, allowed):
                yield Remark("operator", name, f'operator "{spelled}" is not allowed')
        elif operator in CODE_OPERATORS:
            yield Remark("operator", name, f'operator "{spelled}" runs code outside of the model')
        elif domain not in SHIPPED_DOMAINS and (domain, operator) not in seen.functions:
            yield Remark(
                "operator", name, f'operator "{spelled}" is custom: the runtime does not ship it'
            )


def _read(buffer: Buffer, end: int, where: str, seen: _Seen) -> None:
    reader = Reader(buffer)
    parser = GraphParser(reader, where)
    graphs = []
    for key, a, b in reader.fields(0, end):
        if key == _MODEL_GRAPH:
            graphs.append((a, b))
        elif key == _MODEL_FUNCTIONS:
            function = parser.function(a, b)
            seen.functions.add((function.domain, function.name))
            _add_nodes(parser, function.nodes, seen, 0)
    if not graphs:
        raise ModelError("the file holds no ONNX graph", where=where)
    for start, stop in graphs:
        _add_graph(parser, start, stop, seen, 0)


def _add_graph(parser: GraphParser, start: int, end: int, seen: _Seen, depth: int) -> None:
    if depth > _DEEPEST:
        raise WireError("subgraphs are nested deeper than protobuf allows", start)
    graph = parser.graph([(start, end)])
    seen.external += [tensor for tensor in graph.tensors if tensor.external is not None]
    _add_nodes(parser, graph.nodes, seen, depth)


def _add_nodes(parser: GraphParser, nodes: list[RawNode], seen: _Seen, depth: int) -> None:
    for node in nodes:
        seen.operators[node.domain, node.op_type] = None
        for start, end in node.attributes:
            _add_attribute(parser, node, start, end, seen, depth)


def _add_attribute(
    parser: GraphParser, node: RawNode, start: int, end: int, seen: _Seen, depth: int
) -> None:
    name = ""
    words: list[str] = []
    reader = parser.reader
    for key, a, b in reader.fields(start, end):
        if key == _ATTRIBUTE_NAME:
            name = reader.text(a, b)
        elif key in (_ATTRIBUTE_S, _ATTRIBUTE_STRINGS) and b - a <= _LONGEST_WORD:
            words.append(reader.text(a, b))
        elif key in (_ATTRIBUTE_T, _ATTRIBUTE_TENSORS):
            tensor = parser.tensor(a, b)
            if tensor.external is not None:
                seen.external.append(tensor)
        elif key in (_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS):
            _add_graph(parser, a, b, seen, depth + 1)
    for word in words:
        if word.lower().endswith(_LIBRARY_SUFFIXES):
            seen.libraries[word] = None
    if node.op_type == _CONTEXT_OPERATOR and name == "ep_cache_context":
        # Binary contexts are no words; a path is short and prints.
        seen.contexts.update((word, None) for word in words if word.isprintable())
