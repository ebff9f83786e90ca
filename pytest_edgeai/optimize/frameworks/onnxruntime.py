"""ONNX Runtime: loading, running, and what it says that it executes."""

from __future__ import annotations

import functools
import mmap
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from pytest_edgeai.assess.onnx_external import external_locations
from pytest_edgeai.assess.roles import is_quantized
from pytest_edgeai.errors import ModelError, UserError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    ExecutionFacts,
    Feeds,
    OperatorProfile,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.language import split_mapping
from pytest_edgeai.optimize.frameworks.sensitivity import NoiseReport
from pytest_edgeai.optimize.frameworks.support import one_line
from pytest_edgeai.records import RuntimeOptions, TensorSpec

# Uses what add_external_initializers_from_files_in_memory was given instead of copying it.
_BORROW = "session.use_external_initializer_file_buffers_directly"
_ERRORS_ONLY = 3  # ORT_LOGGING_LEVEL_ERROR
_SUFFIX = "ExecutionProvider"
_LEVELS = {
    "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "string": "str",
    **{
        name: name
        for name in (
            *("float16", "bfloat16", "bool"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    },
}
_MODEL_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# "[ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed:" and the C++ place after it.
_PREAMBLE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:)?")
_CODE_PLACE = re.compile(r"^(?:/\S+|[A-Z]:\\\S+):\d+ .*?\)\s+(?=[A-Z])")
_NEWER_OPSET = re.compile(
    r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)"
)
# One Identity on one float32, of opset 13: the smallest model that a session accepts.
_NULL_MODEL = bytes.fromhex(
    "080712003a3a0a100a017812017922084964656e7469747912046e756c6c5a0f0a0178120a0a0808011204"
    "0a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


class OnnxRuntime:
    """See :class:`~pytest_edgeai.optimize.frameworks.base.Framework`."""

    def __init__(self) -> None:
        """Quiet the runtime and keep it from sending telemetry (Windows builds do)."""
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
        onnxruntime.disable_telemetry_events()

    def load(self, path: Path, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        """Load a ``.onnx`` file, with its external data beside it.

        ``runtime.hints`` are session configuration entries, and ``graph_optimization_level``
        (``disable``, ``basic``, ``extended`` or ``all``), and
        :data:`~pytest_edgeai.optimize.frameworks.language.MEMORY_MAPPING`.

        Raises:
            ModelError: this version of ONNX Runtime does not accept the file.
            UserError: the device or a hint does not exist.
        """
        return _load(path, runtime)

    def load_null_model(self, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        """Load a model of one Identity."""
        return OnnxRuntimeModel(_NULL_MODEL, split_mapping(runtime)[1], "the null model")

    def profile(
        self, path: Path, runtime: RuntimeOptions, feeds: Feeds, calls: int
    ) -> OperatorProfile:
        """See :class:`~pytest_edgeai.optimize.frameworks.base.ProfilingFramework`."""
        from pytest_edgeai.optimize.frameworks import onnxruntime_profile

        with tempfile.TemporaryDirectory(prefix="profile-") as folder:
            model = _load(path, runtime, trace=str(Path(folder, "trace")))
            try:
                call = model.bind(feeds)
                for _ in range(onnxruntime_profile.WARM_UP_CALLS + calls):
                    call()
                return onnxruntime_profile.read_trace(model.end_trace())
            finally:
                model.close()

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """See :func:`pytest_edgeai.optimize.frameworks.onnxruntime_optimize.optimize`."""
        # Imported here, because the quantization tools and onnx take memory that a measurement
        # would count.
        from pytest_edgeai.optimize.frameworks import onnxruntime_optimize

        return onnxruntime_optimize.optimize(request, progress)

    def layer_noise(
        self, request: OptimizeRequest, samples: Calibration, time_box_s: float, progress: Progress
    ) -> NoiseReport:
        """See :func:`pytest_edgeai.optimize.frameworks.onnxruntime_sensitivity.layer_noise`."""
        from pytest_edgeai.optimize.frameworks import onnxruntime_sensitivity

        return onnxruntime_sensitivity.layer_noise(request, samples, time_box_s, progress)


class OnnxRuntimeModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.base.LoadedModel`."""

    def __init__(
        self,
        source: str | bytes,
        runtime: RuntimeOptions,
        where: str,
        external: Mapping[str, mmap.mmap] | None = None,
        trace: str = "",
    ) -> None:
        """Make a session.

        Args:
            source: a file, or a serialized model.
            runtime: how it is run.
            where: what errors call it.
            external: location to content of the files with external data; those that are not given
                are mapped by the runtime.
            trace: switches the profiler on, and is how the path of its file begins.
        """
        self._source = source
        self._runtime = runtime
        self._where = where
        # The session borrows them for as long as it lives.
        self._external = external or {}
        options = _session_options(runtime)
        if trace:
            options.enable_profiling = True
            options.profile_file_prefix = trace
        if self._external:
            options.add_session_config_entry(_BORROW, "1")
            options.add_external_initializers_from_files_in_memory(
                list(self._external),
                list(self._external.values()),
                [len(content) for content in self._external.values()],
            )
        self._session: Any = _open_session(source, runtime, where, options)
        self._inputs = [_tensor_spec(value, "input", where) for value in self._session.get_inputs()]
        self._outputs = [
            _tensor_spec(value, "output", where) for value in self._session.get_outputs()
        ]
        self._names = [spec.name for spec in self._outputs]

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs in the model's order."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs in the model's order."""
        return self._outputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once; every output is a new array."""
        values = self._session.run(self._names, dict(feeds))
        return dict(zip(self._names, values, strict=True))

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return ``session.run`` with these feeds: what a bare ONNX Runtime loop calls."""
        return functools.partial(self._session.run, self._names, dict(feeds))

    def execution(self) -> ExecutionFacts:
        """Count the operators of the graph as the runtime optimized it, by precision.

        A second session writes that graph; quantizing and dequantizing steps are not counted.
        """
        with tempfile.TemporaryDirectory(prefix="execution-") as folder:
            dump = Path(folder, "optimized.onnx")
            options = _session_options(self._runtime)
            options.optimized_model_filepath = str(dump)
            # Weights go to a file of their own: one protobuf message cannot exceed 2 GiB.
            entry = "session.optimized_model_external_initializers_file_name"
            options.add_session_config_entry(entry, "optimized.data")
            _open_session(self._source, self._runtime, self._where, options)
            precisions = _count_precisions(dump)
        devices = [name.removesuffix(_SUFFIX) for name in self._session.get_providers()]
        if self._runtime.device.upper() == "CPU":
            devices = [name for name in devices if name == "CPU"]
        return ExecutionFacts(precisions, tuple(devices))

    def end_trace(self) -> Path:
        """Switch the profiler off and return its file; only where it is on."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Release the session."""
        self._session = None
        self._external = {}


def _load(path: Path, runtime: RuntimeOptions, trace: str = "") -> OnnxRuntimeModel:
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    is_mapped, runtime = split_mapping(runtime)
    external = {} if is_mapped else _read_external(path)
    return OnnxRuntimeModel(str(path), runtime, str(path), external, trace)


def _read_external(path: Path) -> dict[str, mmap.mmap]:
    """Return location to content of the files that hold external data, read and not mapped.

    Empty without any, for versions that cannot take them, and where one cannot be read or does not
    lie beside the model: the runtime then maps or refuses them.
    """
    if not hasattr(onnxruntime.SessionOptions, "add_external_initializers_from_files_in_memory"):
        return {}
    contents: dict[str, mmap.mmap] = {}
    for location in external_locations(path):
        if ".." in Path(location).parts:
            return {}
        try:
            with (path.parent / location).open("rb") as file:
                # Pages of its own: weights are aligned within the file, and stay so.
                contents[location] = mmap.mmap(-1, os.fstat(file.fileno()).st_size)
                file.readinto(contents[location])
        except (OSError, ValueError):
            return {}
    return contents


def _open_session(
    source: str | bytes,
    runtime: RuntimeOptions,
    where: str,
    options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    providers = _providers(runtime.device)
    options = options or _session_options(runtime)
    try:
        return onnxruntime.InferenceSession(source, options, providers=providers)
    except _MODEL_ERRORS as error:
        message = one_line(error)
        if "bad allocation" in message or "bad_alloc" in message:
            raise MemoryError(message) from error
        raise load_error(message, where) from error


def load_error(message: str, where: str) -> ModelError:
    """Return the one clear line for what ONNX Runtime says about a file that it refuses."""
    newer = _NEWER_OPSET.search(message)
    if newer:
        opset, domain, newest = newer.groups()
        return ModelError(
            f"the model uses opset {opset} of {domain}",
            where=where,
            allowed=f"up to opset {newest} in onnxruntime {onnxruntime.__version__}",
            advice="Export it with an older opset, or install a newer onnxruntime",
        )
    text = _CODE_PLACE.sub("", _PREAMBLE.sub("", message).strip())
    if "Protobuf parsing failed" in text or "No graph was found" in text:
        return ModelError(
            "the file is damaged or not an ONNX model", where=where, advice="Export it again"
        )
    return ModelError(f"onnxruntime refuses the model: {text.rstrip('.')}", where=where)


def _session_options(runtime: RuntimeOptions) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    for name, value in runtime.hints.items():
        if name != "graph_optimization_level":
            options.add_session_config_entry(name, value)
        elif value in _LEVELS:
            options.graph_optimization_level = _LEVELS[value]
        else:
            raise UserError(
                f'onnxruntime has no graph_optimization_level "{value}"',
                allowed=", ".join(_LEVELS),
                advice=did_you_mean(value, _LEVELS),
            )
    return options


def _providers(device: str) -> list[str]:
    available = {
        name.removesuffix(_SUFFIX).upper(): name for name in onnxruntime.get_available_providers()
    }
    if device.upper() not in available:
        raise UserError(
            f'this onnxruntime has no device "{device}"',
            allowed=", ".join(sorted(available)),
            advice=did_you_mean(device.upper(), available),
        )
    return [available[device.upper()]]


def _tensor_spec(value: Any, kind: str, where: str) -> TensorSpec:
    match = re.fullmatch(r"tensor\((\w+)\)", value.type)
    if match is None:
        raise ModelError(
            f'{kind} "{value.name}" is a {value.type}, not a tensor',
            where=where,
            advice="Export the model with tensors only (scikit-learn: without ZipMap)",
        )
    element = match.group(1)
    shape = tuple(axis if isinstance(axis, int) else None for axis in value.shape)
    return TensorSpec(value.name, _DTYPES.get(element, element), shape)


def _count_precisions(path: Path) -> dict[str, int]:
    import onnx

    # The runtime writes no types for the tensors between its operators. Inference does not know the
    # runtime's own operators, which compute in the type of their first input.
    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    elements: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        elements[value.name] = value.type.tensor_type.elem_type
    counts: Counter[str] = Counter()
    for node in graph.node:
        fallback = next((elements[name] for name in node.input if elements.get(name)), 0)
        for name in node.output:
            elements[name] = elements.get(name) or fallback
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"):
            continue
        if is_quantized(node.op_type):
            bits = next((item.i for item in node.attribute if item.name == "bits"), 8)
            counts[f"int{bits}"] += 1
        elif elements[node.output[0]]:
            name = onnx.TensorProto.DataType.Name(elements[node.output[0]]).lower()
            counts[_DTYPES.get(name, name)] += 1
    return dict(counts)
