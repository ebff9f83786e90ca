"""Language models for OpenVINO: the graph of a Hugging Face directory, its weights by NNCF.

The graph is built here, or exported by optimum-intel where it is none that is known here.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nncf
import openvino

from pytest_edgeai.assess.huggingface import CONFIG
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.openvino import read_model
from pytest_edgeai.optimize.frameworks.openvino_language_export import export_graph, missing
from pytest_edgeai.optimize.frameworks.openvino_language_graph import build_graph
from pytest_edgeai.optimize.frameworks.openvino_language_source import (
    ARTIFACT,
    companions_of,
    graph_refusal,
    read_checkpoint,
    read_source,
)
from pytest_edgeai.optimize.frameworks.support import (
    Options,
    Report,
    listed,
    one_line,
    prune_ratio,
)

GROUP_SIZE = 64
"""Weights of 4 bits that share a scale, by default."""

EXPORTERS = ("auto", "graph", "optimum")
"""Who makes the graph: :mod:`.openvino_language_graph`, optimum-intel, or the first that can."""

_MODES = {
    "int8-weights": {
        "int8_asym": nncf.CompressWeightsMode.INT8_ASYM,
        "int8_sym": nncf.CompressWeightsMode.INT8_SYM,
    },
    "int4-weights": {
        "int4_asym": nncf.CompressWeightsMode.INT4_ASYM,
        "int4_sym": nncf.CompressWeightsMode.INT4_SYM,
    },
}
_SCHEMES = ("convert", *_MODES)
_BITS = {
    openvino.Type.u4: "int4",
    openvino.Type.i4: "int4",
    openvino.Type.u8: "int8",
    openvino.Type.i8: "int8",
}
# From a product back to its weights: NNCF stores integers, and these restore the numbers.
_RESTORING = frozenset({"Convert", "Multiply", "Reshape", "Subtract"})
# What an .xml file may bring along; a directory's own list is the reader's.
_COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt", "openvino_*tokenizer.*")


def optimize(core: openvino.Core, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make ``openvino_model.xml`` and ``.bin``, with configuration and tokenizer beside them.

    Schemes: ``convert`` (float32), ``int8-weights`` and ``int4-weights`` (weights only, by
    ``nncf.compress_weights``; embedding and output layer of the latter have 8 bits, unless
    ``all_layers`` is set). Each takes the option ``exporter``, one of :data:`EXPORTERS`.

    Raises:
        ModelError: OpenVINO or NNCF cannot take this model or recipe; says why.
    """
    scheme = request.recipe.scheme
    if scheme not in _SCHEMES:
        raise ModelError(
            f'openvino has no scheme "{scheme}" for language models',
            allowed=", ".join(_SCHEMES),
            advice=did_you_mean(scheme, _SCHEMES),
        )
    options = Options(request.recipe)
    exporter = options.choice("exporter", EXPORTERS[0], EXPORTERS)
    if scheme == "int8-weights" and prune_ratio(options) is not None:
        raise ModelError('"prune_ratio" takes an ONNX file', where=f"recipe {request.recipe.id}")
    arguments = _arguments(scheme, options)
    with Report(("", "nncf", "openvino")) as report:
        model, companions = _source(core, request, exporter, report, progress)
        if arguments:
            progress("compressing weights", 0.2)
            model = _compress(model, arguments, request, report)
        progress("saving", 0.9)
        artifact = request.output / ARTIFACT
        # The default would halve a float32 model's weights to float16 without a word.
        openvino.save_model(model, artifact, compress_to_fp16=False)
        for file in companions:
            shutil.copyfile(file, request.output / file.name)
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def _source(
    core: openvino.Core,
    request: OptimizeRequest,
    exporter: str,
    report: Report,
    progress: Progress,
) -> tuple[openvino.Model, tuple[Path, ...]]:
    """Return the graph and what belongs beside it."""
    progress("building the graph", 0.0)
    path = request.source
    if path.suffix.lower() == ".xml" and path.is_file():
        if not (path.parent / CONFIG).is_file():
            raise ModelError(f"there is no {CONFIG} beside the model", where=str(path))
        if exporter != EXPORTERS[0]:
            raise ModelError(
                f'option "exporter" is {exporter!r}, and an .xml file is exported already',
                where=f"recipe {request.recipe.id}",
                allowed=EXPORTERS[0],
            )
        found = {file for pattern in _COMPANIONS for file in path.parent.glob(pattern)}
        return read_model(core, path), tuple(sorted(found))
    checkpoint = read_checkpoint(path)
    stored = Counter(tensor.dtype for tensor in checkpoint.tensors.values())
    if set(stored) != {"float32"}:
        report.add(f"tensors were {listed(stored)}, and are float32 where they are not compressed")
    refusal = graph_refusal(checkpoint.config)
    if exporter == "optimum" or (exporter == "auto" and refusal is not None and not missing()):
        progress("exporting with optimum-intel", 0.0)
        model = export_graph(core, checkpoint, request.output, report)
        return model, companions_of(checkpoint)
    source = read_source(checkpoint)
    for note in source.notes:
        report.add(note)
    return build_graph(source.network, source.checkpoint.array), source.companions


def _arguments(scheme: str, options: Options) -> dict[str, Any]:
    """Return the arguments of ``nncf.compress_weights``; none where nothing is compressed."""
    if scheme not in _MODES:
        options.finish()
        return {}
    modes = _MODES[scheme]
    arguments: dict[str, Any] = {"mode": modes[options.choice("mode", next(iter(modes)), [*modes])]}
    if scheme == "int4-weights":
        arguments["group_size"] = options.count("group_size", GROUP_SIZE)
        # NNCF takes a ratio of 0 for one that was not given, which is 1.
        arguments["ratio"] = options.number("ratio", 1.0, 0.01, 1.0)
        arguments["all_layers"] = options.flag("all_layers", False)
        arguments["advanced_parameters"] = nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        )
    scope = {name: options.names(f"ignored_{name}") for name in ("names", "types", "patterns")}
    if any(scope.values()):
        arguments["ignored_scope"] = nncf.IgnoredScope(**scope)
    options.finish()
    return arguments


def _compress(
    model: openvino.Model, arguments: dict[str, Any], request: OptimizeRequest, report: Report
) -> openvino.Model:
    scheme = request.recipe.scheme
    try:
        compressed = nncf.compress_weights(model, **arguments)
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise ModelError(
            f"nncf cannot make {scheme} of this model: {type(error).__name__}: {one_line(error)}",
            where=str(request.source),
        ) from error
    layers = dict(_layers(compressed))
    counts = Counter(layers.values())
    claimed = scheme.partition("-")[0]
    if not counts[claimed]:
        raise ModelError(
            f"nothing was compressed to {claimed}; layers are {listed(counts)}",
            where=str(request.source),
            advice="Choose another scheme, a smaller group_size, or ignore less",
        )
    report.add(f"layers: {listed(counts)}")
    for name, precision in layers.items():
        if precision != claimed:
            report.add(f"not {claimed}: {name} ({precision})")
    return compressed


def _layers(model: openvino.Model) -> Iterator[tuple[str, str]]:
    """Yield the name of each layer with a matrix of weights, and the precision it is stored in."""
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        if kind not in ("MatMul", "Gather"):
            continue
        node = operator.input_value(1 if kind == "MatMul" else 0).get_node()
        while node.get_type_name() in _RESTORING:
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) > 1:
            element = node.get_element_type()
            yield operator.get_friendly_name(), _BITS.get(element, element.get_type_name())
