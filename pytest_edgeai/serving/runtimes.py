"""The runtimes that the server loads artifacts with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "str",
}
"""Datatypes of the protocol, and what NumPy calls them."""
DATATYPES = {name: datatype for datatype, name in DTYPES.items()}

_ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "str",
}
_OPENVINO_DTYPES = {
    "boolean": "bool",
    "string": "str",
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}

_FATAL_ONLY = 4
_MAPPING = "memory_mapping"  # how weights are read, which decides nothing here
_LEVEL = "graph_optimization_level"
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model; an open axis is ``None``."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def metadata(self) -> dict[str, Any]:
        """Return it as the protocol describes it; an open axis is -1."""
        datatype = DATATYPES.get(self.dtype, self.dtype.upper())
        shape = [-1 if axis is None else axis for axis in self.shape]
        return {"name": self.name, "datatype": datatype, "shape": shape}


class Model(Protocol):
    """A loaded artifact; ``run`` is called by one thread at a time."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return output name to array."""


class OnnxRuntimeModel:
    """An ONNX file in ONNX Runtime."""

    def __init__(
        self, path: Path, threads: int, device: str, hints: Mapping[str, str] | None = None
    ) -> None:
        """Load ``path`` with the execution provider of ``device`` (``CPU``, ``CUDA``, ...).

        ``hints`` are entries of the session's configuration, and ``graph_optimization_level``.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in (hints or {}).items():
            if name == _LEVEL:
                level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[value])
                options.graph_optimization_level = level
            elif name != _MAPPING:
                options.add_session_config_entry(name, value)
        # What a request did wrong is said to its sender.
        options.log_severity_level = _FATAL_ONLY
        provider = f"{device}ExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise ValueError(f'this onnxruntime has no device "{device}"')
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        self.inputs = tuple(map(self._tensor, self._session.get_inputs()))
        self.outputs = tuple(map(self._tensor, self._session.get_outputs()))
        self._names = [output.name for output in self.outputs]

    def _tensor(self, node: Any) -> Tensor:
        dtype = _ONNX_DTYPES.get(node.type) or node.type.removeprefix("tensor(").rstrip(")")
        shape = (axis if isinstance(axis, int) and axis > 0 else None for axis in node.shape)
        return Tensor(node.name, dtype, tuple(shape))

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return output name to array."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))


class OpenVinoModel:
    """An OpenVINO IR or ONNX file in OpenVINO."""

    def __init__(
        self, path: Path, threads: int, device: str, hints: Mapping[str, str] | None = None
    ) -> None:
        """Load ``path`` on ``device`` (``CPU``, ``GPU``, ``AUTO``, ...).

        ``hints`` are properties of the device, which come before those that are set here.
        """
        # OpenVINO sends usage data unless this module cannot be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            # As it was measured; some CPUs are otherwise given another precision.
            settings |= {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
            if threads:
                settings["INFERENCE_NUM_THREADS"] = threads
        settings |= {name: value for name, value in (hints or {}).items() if name != _MAPPING}
        compiled = openvino.Core().compile_model(str(path), device, settings)
        self._request = compiled.create_infer_request()
        self.inputs = tuple(map(self._tensor, compiled.inputs))
        self.outputs = tuple(map(self._tensor, compiled.outputs))

    def _tensor(self, port: Any) -> Tensor:
        short = port.get_element_type().get_type_name()
        dtype = _OPENVINO_DTYPES.get(short, short)
        axes = (axis.get_length() if axis.is_static else None for axis in port.get_partial_shape())
        return Tensor(port.get_any_name(), dtype, tuple(axes))

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return output name to array."""
        self._request.infer(dict(feeds))
        return {
            output.name: self._request.get_output_tensor(index).data.copy()
            for index, output in enumerate(self.outputs)
        }


LOADERS: Mapping[str, Callable[[Path, int, str, Mapping[str, str]], Model]] = {
    "onnxruntime": OnnxRuntimeModel,
    "openvino": OpenVinoModel,
    "olive": OnnxRuntimeModel,
}
"""Framework of an artifact to what loads its path for a number of threads (0: the runtime's own)
on a device, with hints."""
