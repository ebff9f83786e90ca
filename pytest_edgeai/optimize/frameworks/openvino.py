"""OpenVINO: loading, running, and what it says that it executes."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

# OpenVINO and NNCF send usage data unless a file in the user's home says otherwise; where this
# module cannot be imported, both go on without it. To be said before either is imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

from pytest_edgeai.assess.model import read_structure  # noqa: E402
from pytest_edgeai.errors import ModelError, UserError, did_you_mean  # noqa: E402
from pytest_edgeai.optimize.frameworks.base import (  # noqa: E402
    Calibration,
    ExecutionFacts,
    Feeds,
    OperatorProfile,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.language import split_mapping  # noqa: E402
from pytest_edgeai.optimize.frameworks.sensitivity import NoiseReport  # noqa: E402
from pytest_edgeai.optimize.frameworks.support import one_line  # noqa: E402
from pytest_edgeai.records import RuntimeOptions, TensorSpec  # noqa: E402

if TYPE_CHECKING:
    from pytest_edgeai.optimize.frameworks.openvino_language import OpenVINOLanguageModel

_DTYPES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "boolean": "bool",
    "string": "str",
    **{f"i{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)},
}
# What a runtime model holds beside operators: its ends, weights, conversions of layout and type.
_NO_OPERATORS = frozenset({"Input", "Output", "Const", "Reorder", "FakeQuantize", "Convert"})
# Layers of the CPU and GPU plugins that compute on their data rather than move it.
_COMPUTING = frozenset(
    {
        *("Convolution", "Deconvolution", "FullyConnected", "MatMul", "Eltwise", "Pooling"),
        *("RNNCell", "RNNSeq", "ScaledDotProductAttention", "LLMMLP", "QKVProjection"),
        *("convolution", "deconvolution", "fully_connected", "gemm", "eltwise", "pooling"),
    }
)
_PROPERTY_PLACE = re.compile(r"properties\.hpp:|config\.cpp:")
_PLACE = re.compile(r"Exception from \S+:\d+:|Check '.*?' failed at \S+:\d+:")


class OpenVINO:
    """Serves models of tensors and models that generate text.

    See :class:`~pytest_edgeai.optimize.frameworks.base.Framework` and
    :class:`~pytest_edgeai.optimize.frameworks.language.LanguageFramework`.
    """

    def __init__(self) -> None:
        """Start the runtime."""
        self._core = openvino.Core()

    def load(self, path: Path, runtime: RuntimeOptions) -> OpenVINOModel:
        """Compile a ``.onnx`` or ``.xml`` file.

        ``runtime.hints`` are properties of the device plugin and override the ones set here, and
        :data:`~pytest_edgeai.optimize.frameworks.language.MEMORY_MAPPING`.

        Raises:
            ModelError: OpenVINO does not accept the file.
            UserError: the device does not exist, or does not know a hint.
        """
        is_mapped, runtime = split_mapping(runtime)
        model = read_model(self._core, path, is_mapped=is_mapped)
        return OpenVINOModel(self._core, model, runtime, output_names(path, model), str(path))

    def profile(
        self, path: Path, runtime: RuntimeOptions, feeds: Feeds, calls: int
    ) -> OperatorProfile:
        """See :class:`~pytest_edgeai.optimize.frameworks.base.ProfilingFramework`."""
        from pytest_edgeai.optimize.frameworks import openvino_profile

        model = self.load(path, openvino_profile.with_counters(runtime))
        return openvino_profile.profile(model, runtime.device, model.bind(feeds), calls)

    def load_null_model(self, runtime: RuntimeOptions) -> OpenVINOModel:
        """Compile a model of one ReLU."""
        from openvino import opset13

        _, runtime = split_mapping(runtime)

        parameter = opset13.parameter([1], np.float32, name="x")
        parameter.output(0).get_tensor().set_names({"x"})
        model = openvino.Model([opset13.relu(parameter)], [parameter], "null")
        return OpenVINOModel(self._core, model, runtime, ["y"], "the null model")

    def load_language_model(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int
    ) -> OpenVINOLanguageModel:
        """See :func:`pytest_edgeai.optimize.frameworks.openvino_language.load`."""
        from pytest_edgeai.optimize.frameworks import openvino_language

        return openvino_language.load(self._core, path, runtime, context_tokens)

    def load_null_language_model(self, runtime: RuntimeOptions) -> OpenVINOLanguageModel:
        """See :func:`pytest_edgeai.optimize.frameworks.openvino_language.load_null`."""
        from pytest_edgeai.optimize.frameworks import openvino_language

        return openvino_language.load_null(self._core, runtime)

    def profile_language_model(
        self,
        path: Path,
        runtime: RuntimeOptions,
        context_tokens: int,
        tokens: NDArray[np.int32],
        calls: int,
    ) -> OperatorProfile:
        """See :class:`~pytest_edgeai.optimize.frameworks.language.ProfilingLanguageFramework`."""
        from pytest_edgeai.optimize.frameworks import openvino_profile

        counted = openvino_profile.with_counters(runtime)
        model = self.load_language_model(path, counted, context_tokens)
        return openvino_profile.profile(model, runtime.device, model.bind_decode(tokens), calls)

    def tokenize(self, path: Path, text: str) -> NDArray[np.int32]:
        """See :func:`pytest_edgeai.optimize.frameworks.huggingface_tokenizer.tokenize_directory`.

        ``path`` is a Hugging Face directory, or an artifact that was made of one.
        """
        from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import tokenize_directory

        return tokenize_directory(path if path.is_dir() else path.parent, text)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Make one artifact of a model of tensors or of a language model.

        See :func:`pytest_edgeai.optimize.frameworks.openvino_optimize.optimize` and
        :func:`pytest_edgeai.optimize.frameworks.openvino_language_optimize.optimize`.
        """
        # Imported here, because NNCF takes memory that a measurement would count.
        from pytest_edgeai.optimize.frameworks import openvino_language_optimize, openvino_optimize
        from pytest_edgeai.optimize.frameworks.openvino_language_source import is_language_model

        if request.architecture == "language-model" or is_language_model(request.source):
            return openvino_language_optimize.optimize(self._core, request, progress)
        return openvino_optimize.optimize(self._core, request, progress)

    def layer_noise(
        self, request: OptimizeRequest, samples: Calibration, time_box_s: float, progress: Progress
    ) -> NoiseReport:
        """See :func:`pytest_edgeai.optimize.frameworks.openvino_sensitivity.layer_noise`."""
        from pytest_edgeai.optimize.frameworks import openvino_sensitivity

        return openvino_sensitivity.layer_noise(self._core, request, samples, time_box_s, progress)


class OpenVINOModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.base.LoadedModel`."""

    def __init__(
        self,
        core: openvino.Core,
        model: openvino.Model,
        runtime: RuntimeOptions,
        names: Sequence[str],
        where: str,
    ) -> None:
        """Compile ``model``, whose outputs are called ``names``."""
        self._compiled: Any = compile_model(core, model, runtime, where)
        self._inputs = [_tensor_spec(port, _input_name(port)) for port in self._compiled.inputs]
        self._outputs = [
            _tensor_spec(port, name)
            for port, name in zip(self._compiled.outputs, names, strict=True)
        ]
        self._request: Any = self._compiled.create_infer_request()

    @property
    def compiled(self) -> Any:
        """The compiled model, until it is released."""
        return self._compiled

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs in the model's order."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs in the model's order."""
        return self._outputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once on copies of the feeds; every output is a new array.

        OpenVINO shares arrays with its callers where it can, and was seen to write into a caller's
        input on a later call.
        """
        self._set_inputs(self._request, feeds)
        self._request.infer(share_outputs=True)
        return {
            spec.name: np.array(self._request.get_output_tensor(index).data)
            for index, spec in enumerate(self._outputs)
        }

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return ``infer`` of a request of its own whose input tensors are set, and hold copies."""
        request = self._compiled.create_infer_request()
        self._set_inputs(request, feeds)
        return functools.partial(request.infer, share_outputs=True)

    def execution(self) -> ExecutionFacts:
        """See :func:`execution_facts`."""
        return execution_facts(self._compiled)

    def close(self) -> None:
        """Release the compiled model."""
        self._request = None
        self._compiled = None

    def _set_inputs(self, request: Any, feeds: Feeds) -> None:
        for index, spec in enumerate(self._inputs):
            # Not shared: a tensor that shares an array's memory does not keep the array alive.
            array = np.array(feeds[spec.name], order="C")
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=False))


def execution_facts(compiled: Any) -> ExecutionFacts:
    """Count the operators of a compiled graph by the precision that the runtime reports.

    Its ends, weights and conversions of layout or type are not counted. Operators that compute on 8
    or 4 bits count as ``int8`` or ``int4``, signed or not.
    """
    counts: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        facts = operator.get_rt_info()
        kind = facts["layerType"].astype(str) if "layerType" in facts else ""
        if kind in _NO_OPERATORS or "runtimePrecision" not in facts:
            continue
        element = facts["runtimePrecision"].astype(str)
        products = _integer_products(operator) if kind == "Subgraph" else 0
        if products:
            counts["int8"] += products
        elif kind in _COMPUTING and element in ("u8", "i8", "u4", "i4"):
            counts[f"int{element[1:]}"] += 1
        else:
            counts[_DTYPES.get(element, element)] += 1
    devices = compiled.get_property("EXECUTION_DEVICES")
    return ExecutionFacts(dict(counts), tuple(devices))


def _integer_products(subgraph: Any) -> int:
    """Return how many 8-bit weights a fused layer takes; each belongs to one product inside it.

    The runtime gives such a layer the precision of its outputs, whatever it computes in.
    """
    sources = [port.get_source_output() for port in subgraph.inputs()]
    return sum(
        source.get_node().get_rt_info()["layerType"].astype(str) == "Const"
        and source.get_element_type() in (openvino.Type.i8, openvino.Type.u8)
        for source in sources
    )


def read_model(core: openvino.Core, path: Path, *, is_mapped: bool = False) -> openvino.Model:
    """Read a ``.onnx`` or ``.xml`` file.

    Args:
        core: the runtime.
        path: the file.
        is_mapped: whether weights in a file of their own (``.bin``, external data) are mapped, as
            OpenVINO does by default, instead of read.

    Raises:
        ModelError: OpenVINO does not accept it.
    """
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    try:
        return core.read_model(path, config={"ENABLE_MMAP": is_mapped})
    except RuntimeError as error:
        raise load_error(error, path.as_posix()) from error


def load_error(error: Exception, where: str) -> ModelError:
    """Return the one clear line for what OpenVINO says about a model that it refuses."""
    text = one_line(error)
    missing = re.search(r"No conversion rule found for operations: (.*)$", text)
    if missing:
        return ModelError(
            f"openvino {openvino.__version__.partition('-')[0]} does not know the operators "
            f"{missing.group(1)}",
            where=where,
        )
    if "Unable to read the model" in text:
        return ModelError(
            "the file is damaged or not a model that openvino reads",
            where=where,
            allowed=".onnx and .xml",
        )
    return ModelError(
        f"openvino refuses the model: {' '.join(_PLACE.sub('', text).split())}", where=where
    )


def output_names(path: Path, model: openvino.Model) -> list[str]:
    """Return the names of the outputs in order; those of the ONNX file where ``path`` is one.

    Tensors of an OpenVINO model can bear several names, of which the ONNX output's is one.
    """
    if path.suffix.lower() == ".onnx":
        names = [spec.name for spec in read_structure(path).outputs]
        if len(names) == len(model.outputs):
            return names
    return [_any_name(port) for port in model.outputs]


def _any_name(port: Any) -> str:
    names = sorted(port.get_names())
    return names[0] if names else str(port.get_node().get_friendly_name())


def _input_name(port: Any) -> str:
    friendly = str(port.get_node().get_friendly_name())
    return friendly if friendly in port.get_names() else _any_name(port)


def _tensor_spec(port: Any, name: str) -> TensorSpec:
    element = port.get_element_type().get_type_name()
    dtype = _DTYPES.get(element, element)
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return TensorSpec(name, dtype, (), has_shape=False)
    shape = tuple(axis.get_length() if axis.is_static else None for axis in partial)
    return TensorSpec(name, dtype, shape)


def compile_model(
    core: openvino.Core, model: openvino.Model, runtime: RuntimeOptions, where: str
) -> openvino.CompiledModel:
    """Compile a model; ``runtime.hints`` override the properties that are set here.

    Raises:
        ModelError: OpenVINO does not accept it.
        UserError: the device does not exist, or does not know a hint.
    """
    known = {name.partition(".")[0] for name in core.available_devices}
    if runtime.device.partition(".")[0].partition(":")[0] not in {
        *known,
        "AUTO",
        "MULTI",
        "HETERO",
    }:
        raise UserError(
            f'openvino finds no device "{runtime.device}"',
            allowed=", ".join(sorted(core.available_devices)),
            advice=did_you_mean(runtime.device, known),
        )
    try:
        return core.compile_model(model, runtime.device, _properties(runtime))
    except RuntimeError as error:
        unknown = re.search(r"(?:Unsupported property|NotFound.*?key:?)\s+(\w+)", str(error))
        if unknown and unknown.group(1) in runtime.hints:
            raise UserError(
                f'the {runtime.device} device of openvino has no property "{unknown.group(1)}"',
                advice=did_you_mean(
                    unknown.group(1), core.get_property(runtime.device, "SUPPORTED_PROPERTIES")
                ),
            ) from error
        if runtime.hints and _PROPERTY_PLACE.search(str(error)):
            reason = " ".join(_PLACE.sub("", one_line(error)).split())
            raise UserError(f"openvino refuses the runtime properties: {reason}") from error
        raise load_error(error, where) from error


def _properties(runtime: RuntimeOptions) -> Mapping[str, object]:
    properties: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if runtime.device == "CPU":
        properties["NUM_STREAMS"] = 1
        # Pinned threads wait for a core that others use: p50 was 13.3 ms instead of 2.8 under load.
        properties["ENABLE_CPU_PINNING"] = False
        # CPUs with AMX or AVX512-FP16 are otherwise given bfloat16 or float16 for a float32 model,
        # and a "float32" figure would silently be that of another precision.
        properties["INFERENCE_PRECISION_HINT"] = "f32"
        if runtime.threads:
            properties["INFERENCE_NUM_THREADS"] = runtime.threads
    return {**properties, **runtime.hints}
