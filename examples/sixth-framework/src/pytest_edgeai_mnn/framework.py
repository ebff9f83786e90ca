"""MNN: conversion from ONNX, compression of weights, and running on the CPU.

Source: https://mnn-docs.readthedocs.io, pages "Python API" and "Model conversion".
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import MNN
import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, UserError, unknown_word
from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.support import Options
from pytest_edgeai.records import RuntimeOptions, TensorSpec, to_json
from pytest_edgeai_mnn.mnn_file import read_weights

MODEL = "model.mnn"
INTERFACE = "model.json"
"""Names, dtypes and shapes of the ONNX model: a ``.mnn`` file keeps neither int64 nor free axes."""

_EXPR: Any = MNN.expr
# What MNN computes on, by the dtype that callers feed.
_DTYPES: Mapping[str, tuple[str, Any]] = {
    "float32": ("float32", _EXPR.float),
    "int32": ("int32", _EXPR.int),
    "int64": ("int32", _EXPR.int),
}
_CPU = 0  # MNN_FORWARD_CPU
_HINTS = {
    "precision": ("normal", "low", "high", "low_bf"),
    "power": ("normal", "low", "high"),
    "memory": ("normal", "low", "high"),
}
# What the converter prints where it fails, behind the time and the line of its source.
_COMPLAINT = re.compile(r"ERROR|Check failed|Not Support")
_PLACE = re.compile(r"^\[[\d:]+\] :\d+: |^\[ERROR\]")
_SCHEMES: Mapping[str, tuple[str, ...]] = {
    "convert": (),
    "int8-weights": ("--weightQuantBits", "8"),
    "int4-weights": ("--weightQuantBits", "4"),
    "float16-weights": ("--fp16",),
}


class Mnn:
    """See :class:`~pytest_edgeai.optimize.frameworks.base.Framework`."""

    def load(self, path: Path, runtime: RuntimeOptions) -> MnnModel:
        """Load an artifact of :meth:`optimize`.

        ``runtime.hints`` are ``precision``, ``power`` and ``memory`` of MNN's backend.

        Raises:
            ModelError: MNN does not accept the file.
            UserError: the device or a hint does not exist.
        """
        if path.suffix.lower() == ".onnx":
            # Converting here would count the converter as the model's memory.
            raise ModelError(
                "MNN runs converted models alone",
                where=str(path),
                advice='Set baseline = "native", or "same-framework"',
            )
        if not path.is_file():
            raise ModelError("there is no such file", where=str(path))
        return MnnModel(path, runtime)

    def load_null_model(self, runtime: RuntimeOptions) -> MnnModel:
        """Load a model of one ReLU."""
        with tempfile.TemporaryDirectory(prefix="mnn-") as folder:
            path = Path(folder, MODEL)
            spec = TensorSpec("x", "float32", (1,))
            placeholder = _EXPR.placeholder([1], _EXPR.NCHW, _EXPR.float)
            placeholder.name = spec.name
            output = _EXPR.relu(placeholder)
            output.name = "y"
            _EXPR.save([output], str(path))
            _write_interface(path, [spec], [TensorSpec("y", "float32", (1,))])
            return MnnModel(path, runtime)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Make ``model.mnn``, with ``model.json`` beside it.

        Schemes: ``convert`` (graph optimizations), ``int8-weights`` and ``int4-weights`` (weights
        of convolutions and products, by output channel; option ``asymmetric``), and
        ``float16-weights``. None needs calibration data.

        Raises:
            ModelError: MNN cannot take this model or recipe; says why.
        """
        scheme = request.recipe.scheme
        if scheme not in _SCHEMES:
            raise unknown_word("scheme", scheme, _SCHEMES, where="mnn", error=ModelError)
        options = Options(request.recipe)
        arguments = [*_SCHEMES[scheme]]
        if "--weightQuantBits" in arguments:
            asymmetric = options.flag("asymmetric", True)
            arguments.append(f"--weightQuantAsymmetric={int(asymmetric)}")
        options.finish()
        progress("converting", 0.0)
        path = _convert(request.source, request.output, arguments, request.inputs)
        progress("done", 1.0)
        stored = read_weights(path).elements
        return OptimizeResult(path, (f"stored weights: {json.dumps(stored)}",))


class MnnModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.base.LoadedModel`."""

    def __init__(self, path: Path, runtime: RuntimeOptions) -> None:
        """Load ``model.mnn``, whose ``model.json`` lies beside it."""
        self._inputs, self._outputs = _read_interface(path)
        self._path = path
        manager = MNN.nn.create_runtime_manager((_configuration(runtime),))
        names = [[spec.name for spec in specs] for specs in (self._inputs, self._outputs)]
        try:
            self._module: Any = MNN.nn.load_module_from_file(
                str(path), *names, runtime_manager=manager
            )
        except (RuntimeError, SystemError) as error:
            raise ModelError(f"MNN {MNN.version()} refuses the model", where=str(path)) from error

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs of the ONNX model, in its order."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs of the ONNX model, in its order."""
        return self._outputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once on copies of the feeds; every output is a new array."""
        return {
            spec.name: _to_array(variable, spec)
            for spec, variable in zip(
                self._outputs, self._module.onForward(self._variables(feeds)), strict=True
            )
        }

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return ``onForward`` with these inputs, which computes before it returns."""
        return functools.partial(self._module.onForward, self._variables(feeds))

    def execution(self) -> ExecutionFacts:
        """State what the file stores; MNN does not tell what its operators compute in.

        The runtime is created for the CPU alone, hence the device.

        Raises:
            ModelError: the file is gone, or its weights cannot be counted.
        """
        stored = read_weights(self._path)
        return ExecutionFacts(
            executed_precisions={},
            executed_devices=("CPU",),
            weight_elements=stored.elements,
            quantized_operators=stored.quantized_operators,
        )

    def close(self) -> None:
        """Release the module."""
        self._module = None

    def _variables(self, feeds: Feeds) -> list[Any]:
        return [_to_variable(feeds[spec.name], spec) for spec in self._inputs]


def _to_variable(array: NDArray[Any], spec: TensorSpec) -> Any:
    dtype, kind = _DTYPES[spec.dtype]
    converted = np.ascontiguousarray(array, dtype=dtype)
    if converted.dtype != array.dtype and not np.array_equal(converted, array):
        raise ModelError(f'input "{spec.name}" holds numbers beyond 32 bits, which MNN lacks')
    return _EXPR.const(converted, list(array.shape), _EXPR.NCHW, kind)


def _to_array(variable: Any, spec: TensorSpec) -> NDArray[Any]:
    if variable.data_format == _EXPR.NC4HW4:
        variable = _EXPR.convert(variable, _EXPR.NCHW)
    return np.array(variable.read(), dtype=spec.dtype)


def _configuration(runtime: RuntimeOptions) -> dict[str, object]:
    if runtime.device != "CPU":
        raise UserError(f'mnn has no device "{runtime.device}"', allowed="CPU")
    # "normal" lets ARM CPUs compute in float16 what the artifact stores as float32.
    chosen: dict[str, object] = {"backend": _CPU, "precision": "high"}
    if runtime.threads:
        chosen["numThread"] = runtime.threads
    for name, value in runtime.hints.items():
        if name not in _HINTS:
            raise unknown_word("hint", name, _HINTS, where="mnn")
        if value not in _HINTS[name]:
            raise unknown_word(name, value, _HINTS[name], where="mnn")
        chosen[name] = value
    return chosen


def _convert(
    source: Path, folder: Path, arguments: Sequence[str], inputs: Sequence[TensorSpec]
) -> Path:
    """Convert an ONNX file; return the ``.mnn`` file."""
    outputs = read_structure(source).outputs
    for spec in (*inputs, *outputs):
        if spec.dtype not in _DTYPES:
            raise ModelError(
                f'"{spec.name}" is of the dtype {spec.dtype}',
                where=str(source),
                allowed=", ".join(_DTYPES),
            )
    # The native converter. MNN's "mnnconvert" command would also install a logging package with pip
    # and send the arguments, the sizes and this machine's id to a server.
    from _tools import mnnconvert

    path = folder / MODEL
    command = ["mnnconvert", "-f", "ONNX", "--bizCode", "edgeai"]
    command += ["--modelFile", str(source), "--MNNModel", str(path), *arguments]
    with _printed() as lines:
        mnnconvert(command)
    if not path.is_file():  # the converter returns True whatever happens
        said = [line for line in lines if _COMPLAINT.search(line)]
        reason = _PLACE.sub("", said[0]).strip() if said else "it does not say why"
        raise ModelError(
            f"MNN {MNN.version()} cannot convert the model: {reason}",
            where=str(source),
        )
    _write_interface(path, inputs, outputs)
    return path


@contextmanager
def _printed() -> Iterator[list[str]]:
    """Collect the lines that native code prints meanwhile, and pass them on afterwards."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            yield lines
        finally:
            # Native code buffers what it prints until there is much of it.
            ctypes.CDLL(None).fflush(None)
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
            file.seek(0)
            printed = file.read()
            os.write(2, printed)
            lines += printed.decode("utf-8", "replace").splitlines()


def _write_interface(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    content = {"inputs": to_json(list(inputs)), "outputs": to_json(list(outputs))}
    path.with_name(INTERFACE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_interface(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    try:
        content = json.loads(path.with_name(INTERFACE).read_text("utf-8"))
        inputs, outputs = (
            [TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in content[side]]
            for side in ("inputs", "outputs")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{INTERFACE} is missing or damaged ({error})",
            where=str(path),
            advice="Load an artifact of this framework as it was made",
        ) from None
    return inputs, outputs
