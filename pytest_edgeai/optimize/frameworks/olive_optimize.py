"""Olive's passes for models of tensors: full precision, static and dynamic quantization."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.olive_language import LANGUAGE_SCHEMES, make_language_model
from pytest_edgeai.optimize.frameworks.olive_search import SearchSettings, search
from pytest_edgeai.optimize.frameworks.olive_workflow import (
    CALIBRATION,
    JSONTable,
    Outcome,
    check_finite,
    collect,
    no_artifact,
    run_workflow,
)
from pytest_edgeai.optimize.frameworks.onnx_pruning import with_pruned_source
from pytest_edgeai.optimize.frameworks.onnxruntime_prepare import preprocess, with_named_nodes
from pytest_edgeai.optimize.frameworks.support import (
    DEFAULT_CALIBRATION_CALLS,
    TRANSFORMERS,
    Options,
    Report,
    calibration_of,
    listed,
    prune_ratio,
)

# DequantizeLinear takes a scale per channel from opset 13 on (docs/Changelog.md of ONNX), and
# ONNX Runtime refuses such a graph of an older opset; 17 is what every runtime of late knows.
PER_CHANNEL_OPSET = 13
CONVERTED_OPSET = 17

# One protobuf message holds less than 2 GiB; intermediate models carry some more than the source.
_LARGE_BYTES = 3 * 2**29

_TYPES = ("int8", "uint8")
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
# Left alone, Olive quantizes Conv dynamically too, and ConvInteger has no fast kernel (0.26x).
_DYNAMIC_OPERATORS = ("MatMul", "Gemm", "Gather", "Attention", "LSTM")
# In a transformer the products carry the cost; normalizations and softmax in 8 bits cost accuracy.
_TRANSFORMER_OPERATORS = ("MatMul", "Gemm")
_AMBIGUOUS = "truth value of an array"
_SCHEMES = ("convert", "int8-static", "int8-dynamic", "int8-search", *LANGUAGE_SCHEMES)


@dataclass(frozen=True)
class _Settings:
    """Options of a quantization pass, in the recipe's words."""

    per_channel: bool
    op_types: tuple[str, ...]
    nodes_to_exclude: tuple[str, ...]
    weight_type: str = "int8"
    activation_type: str = "uint8"
    reduce_range: bool = False
    calibrate_method: str = "minmax"
    symmetric_activations: bool = False
    calibration_calls: int = DEFAULT_CALIBRATION_CALLS
    search: SearchSettings | None = None


def optimize(request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.onnx``, with what belongs to it beside it.

    Schemes: ``convert`` (Olive's peephole optimizer, no change of precision), ``int8-static``
    (QDQ), ``int8-dynamic``, ``int8-search`` (the settings of ``int8-static`` that Olive's search
    finds best), and for language models ``int4-genai`` and ``int8-genai``; ``convert`` makes
    float32 of them too. With ``prune_ratio`` output channels are removed first, see
    :mod:`pytest_edgeai.optimize.frameworks.onnx_pruning`.

    Raises:
        ModelError: Olive cannot take this model or recipe, or made something else than the recipe
            claims; says why.
    """
    scheme = request.recipe.scheme
    if scheme not in _SCHEMES:
        raise ModelError(
            f'olive has no scheme "{scheme}"',
            allowed=", ".join(_SCHEMES),
            advice=did_you_mean(scheme, _SCHEMES),
        )
    options = Options(request.recipe)
    is_language = request.source.is_dir()
    if scheme in LANGUAGE_SCHEMES or (is_language and scheme == "convert"):
        return make_language_model(request, options, progress)
    settings = _read_settings(options, request) if scheme != "convert" else None
    ratio = None if is_language else prune_ratio(options)
    options.finish()
    if is_language:
        raise ModelError(
            f'"{scheme}" takes an ONNX file, and this is a directory',
            where=str(request.source),
            allowed=", ".join(("convert", *LANGUAGE_SCHEMES)),
        )
    # Beside the output: what Olive writes may be large, and moves without copying.
    with (
        Report(()) as report,
        tempfile.TemporaryDirectory(prefix="olive-", dir=request.output) as folder,
    ):
        request = with_pruned_source(request, ratio, Path(folder), report)
        if settings is not None and settings.nodes_to_exclude:
            request = replace(request, source=with_named_nodes(request.source, Path(folder)))
        work = _Work(request, Path(folder), report, progress)
        artifact = work.convert() if settings is None else work.quantize(settings)
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def _read_settings(options: Options, request: OptimizeRequest) -> _Settings:
    is_transformer = request.architecture in TRANSFORMERS
    scheme = request.recipe.scheme
    if scheme == "int8-dynamic":
        return _Settings(
            per_channel=options.flag("per_channel", True),
            op_types=tuple(options.names("op_types", _DYNAMIC_OPERATORS)),
            nodes_to_exclude=tuple(options.names("nodes_to_exclude")),
            weight_type=options.choice("weight_type", "int8", _TYPES),
            reduce_range=options.flag("reduce_range", False),
        )
    common = _Settings(
        per_channel=True,
        op_types=tuple(options.names("op_types", _TRANSFORMER_OPERATORS if is_transformer else ())),
        nodes_to_exclude=tuple(options.names("nodes_to_exclude")),
        reduce_range=options.flag("reduce_range", False),
        activation_type=options.choice("activation_type", "uint8", _TYPES),
        calibration_calls=options.count("calibration_calls", DEFAULT_CALIBRATION_CALLS),
    )
    if scheme == "int8-search":
        return replace(common, search=SearchSettings.read(options, _TYPES, tuple(_METHODS)))
    return replace(
        common,
        per_channel=options.flag("per_channel", True),
        weight_type=options.choice("weight_type", "int8", _TYPES),
        calibrate_method=options.choice("calibrate_method", "minmax", tuple(_METHODS)),
        symmetric_activations=options.flag("symmetric_activations", False),
    )


@dataclass(frozen=True)
class _Work:
    """Makes one artifact of one ONNX file in a folder that is removed afterwards."""

    request: OptimizeRequest
    folder: Path
    report: Report
    progress: Progress

    def convert(self) -> Path:
        """Let Olive simplify the graph; weights keep their precision."""
        self.progress("optimizing the graph", 0.1)
        passes = self._float32()
        if passes:
            passes["fold"] = {"type": "OnnxQuantizationPreprocess", **self._storage()}
        passes["peephole"] = {"type": "OnnxPeepholeOptimizer", **self._storage()}
        made = self._made(self._run(passes))
        before = read_structure(self.request.source).weight_elements
        after = read_structure(made).weight_elements
        if set(after) - {*before, "float32", "int64", "int32", "bool"}:
            raise ModelError(
                f"olive changed the weights from {listed(before)} to {listed(after)}",
                where=str(self.request.source),
            )
        return self._keep(made)

    def quantize(self, settings: _Settings) -> Path:
        """Run the quantization pass, and prove that it quantized."""
        calibration = None
        if self.request.recipe.scheme != "int8-dynamic":
            calibration = calibration_of(
                self.request, settings.calibration_calls, self.progress, 0.2, 0.7
            )
            if len(calibration) < len(calibration.source):
                used, there = len(calibration), len(calibration.source)
                self.report.add(f"calibrated with the first {used} of {there} calls")
            self.progress("reading the calibration data", 0.0)
            check_finite(islice(calibration.source, len(calibration)))
        self._check_names(settings)
        self.progress("importing olive", 0.05)
        if settings.search is not None and calibration is not None:
            outcome = search(
                self.request,
                settings.search,
                calibration,
                lambda feeds, config: self._run(self._static(settings), feeds, config),
                self.report,
                self.progress,
            )
        else:
            outcome = self._attempts(settings, calibration)
        made = self._made(outcome)
        structure = read_structure(made)
        eight_bits = sum(structure.weight_elements.get(name, 0) for name in _TYPES)
        if not structure.quantized_operators or not eight_bits:
            wanted = ", ".join(settings.op_types) or "any that olive can quantize"
            raise ModelError(
                f"olive reported success and quantized nothing; the model has "
                f"{listed(structure.operators)}",
                where=str(self.request.source),
                allowed=f"operators of type {wanted}",
                advice='Choose another scheme or other "op_types"',
            )
        return self._keep(made)

    def _attempts(self, settings: _Settings, calibration: Calibration | None) -> Outcome:
        """Quantize, working around a defect of ONNX Runtime's tool that some graphs meet.

        Adjusting the weights' scale for an int32 bias fails for some biases with "the truth value
        of an array is ambiguous"; without that adjustment, or per tensor, it does not.
        """
        if calibration is None:
            return self._run(self._dynamic(settings))
        attempts: list[tuple[str, _Settings, JSONTable]] = [
            ("", settings, {}),
            (
                "without adjusting weights for int32 biases",
                settings,
                {"extra_options": {"QDQDisableWeightAdjustForInt32Bias": True}},
            ),
            ("per tensor", replace(settings, per_channel=False), {}),
        ]
        outcome = Outcome(None, ())
        for how, changed, extra in attempts:
            passes = self._static(changed)
            passes["quantize"].update(extra)
            outcome = self._run(passes, calibration)
            if outcome.path is not None and how:
                self.report.add(f"quantized {how}")
            if outcome.path is not None or not any(_AMBIGUOUS in word for word in outcome.words):
                break
        return outcome

    def _static(self, settings: _Settings) -> dict[str, JSONTable]:
        """Return the passes; a search leaves some of their settings open."""
        fixed: JSONTable = {
            "type": "OnnxStaticQuantization",
            "data_config": CALIBRATION,
            "quant_format": "QDQ",
            "prepare_qdq_config": False,
            "quant_preprocess": True,
            "precision": settings.weight_type,
            "activation_type": settings.activation_type,
            "per_channel": settings.per_channel,
            "reduce_range": settings.reduce_range,
            "calibrate_method": _METHODS[settings.calibrate_method],
            "activation_symmetric": settings.symmetric_activations,
            "op_types_to_quantize": list(settings.op_types) or None,
            "nodes_to_exclude": list(settings.nodes_to_exclude) or None,
            **self._storage(),
        }
        if settings.search is not None:
            fixed.update(settings.search.space(_METHODS))
        return {**self._prepared(settings.per_channel), "quantize": fixed}

    def _dynamic(self, settings: _Settings) -> dict[str, JSONTable]:
        # The tool turns every Gemm into MatMul and Add before it looks at the operator types.
        op_types = {"MatMul" if name == "Gemm" else name for name in settings.op_types}
        excluded = [new for name in settings.nodes_to_exclude for new in (name, f"{name}_MatMul")]
        fixed: JSONTable = {
            "type": "OnnxDynamicQuantization",
            "quant_preprocess": True,
            "precision": settings.weight_type,
            "per_channel": settings.per_channel,
            "reduce_range": settings.reduce_range,
            "op_types_to_quantize": sorted(op_types),
            "nodes_to_exclude": excluded or None,
            **self._storage(),
        }
        return {**self._prepared(settings.per_channel), "quantize": fixed}

    def _prepared(self, per_channel: bool) -> dict[str, JSONTable]:
        """Return the passes that make a graph which can be quantized."""
        passes = self._float32()
        opset = read_structure(self.request.source).opset
        if per_channel and opset < PER_CHANNEL_OPSET:
            self.report.add(f"converted from opset {opset} to {CONVERTED_OPSET}")
            convert = {"type": "OnnxOpVersionConversion", "target_opset": CONVERTED_OPSET}
            passes = {"opset": convert, **passes}
        return passes

    def _float32(self) -> dict[str, JSONTable]:
        """Return a pass for a float16 model, which the CPU computes in float32.

        ONNX Runtime inserts casts around what it has no kernels for; preparing the graph once more,
        which quantization does by itself, folds those of the weights away.
        """
        if not read_structure(self.request.source).weight_elements.get("float16"):
            return {}
        self.report.add("float16 weights were converted to float32, which the CPU computes in")
        return {"float32": {"type": "OnnxQuantizationPreprocess", **self._storage()}}

    def _storage(self) -> JSONTable:
        is_large = read_structure(self.request.source).size_bytes > _LARGE_BYTES
        return {"save_as_external_data": True} if is_large else {}

    def _run(
        self,
        passes: dict[str, JSONTable],
        calibration: Calibration | None = None,
        search_config: JSONTable | None = None,
    ) -> Outcome:
        # A folder of its own each time: Olive would answer from the cache of a failed attempt.
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.progress("running olive", 0.15)
        return run_workflow(
            {
                "type": "ONNXModel",
                "model_path": str(_with_opsets_once(self.request.source, folder)),
            },
            passes,
            folder,
            self.report,
            calibration=calibration,
            search=search_config,
        )

    def _made(self, outcome: Outcome) -> Path:
        if outcome.path is None:
            raise no_artifact(self.request, outcome)
        return outcome.path

    def _keep(self, made: Path) -> Path:
        self.progress("saving", 0.95)
        return collect(made, self.request.output)

    def _check_names(self, settings: _Settings) -> None:
        """Refuse operator types and nodes that the graph does not have."""
        operators = read_structure(self.request.source).operators
        if settings.op_types and not set(settings.op_types) & set(operators):
            raise ModelError(
                f"there is nothing to quantize; the model has {listed(operators)}",
                where=str(self.request.source),
                allowed=f"operators of type {', '.join(settings.op_types)}",
                advice='Choose another scheme or other "op_types"',
            )
        if not settings.nodes_to_exclude:
            return
        names = self._names(settings)
        for name in settings.nodes_to_exclude:
            if name not in names:
                raise ModelError(
                    f'option "nodes_to_exclude": the graph has no node "{name}"',
                    where=f"recipe {self.request.recipe.id}",
                    advice=did_you_mean(name, names),
                )

    def _names(self, settings: _Settings) -> set[str]:
        """Return the nodes that can be excluded: the source's, and those that preparing it makes.

        Olive prepares a graph with ONNX Runtime's tool, which gives fused nodes a name of its own.
        """
        names = {node.name for node in _graph(self.request.source).node}
        if not names.issuperset(settings.nodes_to_exclude):
            prepared = self.folder / "names.onnx"
            preprocess(self.request.source, prepared, self.folder, Report(()))
            names |= {node.name for node in _graph(prepared).node}
        return names


def _graph(source: Path) -> Any:
    import onnx

    return onnx.load(source, load_external_data=False).graph


def _with_opsets_once(source: Path, folder: Path) -> Path:
    """Return a model without repeated imports of one opset; skl2onnx writes them, tools refuse."""
    import onnx

    imports = onnx.load(source, load_external_data=False).opset_import
    unique = {(entry.domain, entry.version): entry for entry in imports}
    if len(unique) == len(imports):
        return source.resolve()
    model = onnx.load(source)
    del model.opset_import[:]
    model.opset_import.extend(unique.values())
    path = folder / "source.onnx"
    onnx.save(model, path)
    return path
