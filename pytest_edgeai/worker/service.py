"""The operations that a worker performs; it knows frameworks, and no gate.

Arguments and results are plain JSON; arrays travel as paths of ``.npy`` files.
"""

from __future__ import annotations

import errno
import gc
import importlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import cast

import numpy as np

from pytest_edgeai.errors import MeasurementError, ModelError
from pytest_edgeai.optimize.frameworks.base import (
    Feeds,
    Framework,
    LoadedModel,
    OptimizeRequest,
)
from pytest_edgeai.optimize.frameworks.language import LanguageFramework, maps_weights
from pytest_edgeai.records import JSON, Architecture, Recipe, RuntimeOptions, to_json
from pytest_edgeai.worker import arrays as samples_of
from pytest_edgeai.worker.connection import Connection
from pytest_edgeai.worker.endurance import Endurance
from pytest_edgeai.worker.energy import EnergyOperations
from pytest_edgeai.worker.extreme_inputs import ExtremeInputs
from pytest_edgeai.worker.failures import needs_traceback, to_failure
from pytest_edgeai.worker.language import LanguageModels
from pytest_edgeai.worker.load_operations import LoadOperations
from pytest_edgeai.worker.memory import memory_growth, peak_meter
from pytest_edgeai.worker.network import OPERATIONS as NETWORK_OPERATIONS
from pytest_edgeai.worker.placement import allowed_cores, run_on
from pytest_edgeai.worker.profile import Profiling
from pytest_edgeai.worker.protocol import ProtocolError, Request
from pytest_edgeai.worker.relay import Relay
from pytest_edgeai.worker.resident import memory_now
from pytest_edgeai.worker.sensitivity import LayerSensitivity
from pytest_edgeai.worker.serving import Serving
from pytest_edgeai.worker.timing import time_calls

Operation = Callable[..., JSON]
_NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", -1)})


class Service:
    """One framework, the models it has loaded, and the operations on them."""

    def __init__(self, framework: Framework | LanguageFramework, connection: Connection) -> None:
        """Serve ``framework`` over ``connection``."""
        self._framework = framework
        self._connection = connection
        self._request_id = 0
        self._performed = 0
        self._cores = allowed_cores()
        self._models: dict[str, LoadedModel] = {}
        self._calls: dict[str, Callable[[], object]] = {}
        self._operations: dict[str, Operation] = {
            "optimize": self.optimize,
            "load": self.load,
            "unload": self.unload,
            "execution": self.execution,
            "prepare": self.prepare,
            "time_calls": self.time_calls,
            "evaluate": self.evaluate,
            "measure_memory": self.measure_memory,
            "memory_now": self.memory_now,
            "run_on": self.run_on,
        }
        self._language = LanguageModels(framework, self._calls, lambda: self._performed)
        self._operations |= self._language.operations
        self._operations |= NETWORK_OPERATIONS
        self._operations |= ExtremeInputs(self._models, self._language.models).operations
        self._operations |= LoadOperations(self._model, self._language.model).operations
        self._operations |= Endurance(self._calls, self._tensors).operations
        self._operations |= Serving(self._model).operations
        self._operations |= Relay(self._calls, self._cores).operations
        self._operations |= LayerSensitivity(framework, self._progress).operations
        self._operations |= Profiling(self._calls, framework).operations
        self._operations |= EnergyOperations(self._calls).operations

    @classmethod
    def serve(cls, connection: Connection, start: Request, versions: Mapping[str, str]) -> int:
        """Import the framework, answer ``start``, and serve until told to stop.

        Returns:
            exit code of the process.
        """
        required = start.arguments["distributions"]
        try:
            framework = _make_framework(start.arguments["implementation"])
        except BaseException as error:
            _report(connection, start.id, error, required)
            return 1
        connection.result(start.id, {"versions": dict(versions)})
        service = cls(framework, connection)
        while (request := connection.receive()) is not None and request.operation != "shutdown":
            try:
                connection.result(request.id, service.perform(request))
            except BaseException as error:
                _report(connection, request.id, error, required)
        service.close()
        return 0

    def perform(self, request: Request) -> JSON:
        """Perform one operation.

        Raises:
            ProtocolError: there is no such operation.
        """
        operation = self._operations.get(request.operation)
        if operation is None:
            raise ProtocolError(f"there is no operation {request.operation!r}")
        self._request_id = request.id
        self._performed += 1
        return operation(**request.arguments)

    def close(self) -> None:
        """Release every model."""
        self._calls.clear()
        self._language.close()
        while self._models:
            self._models.popitem()[1].close()

    def optimize(
        self,
        source: str,
        recipe: Mapping[str, JSON],
        architecture: str,
        inputs: list[Mapping[str, JSON]],
        calibration: Mapping[str, JSON] | None,
        output: str,
    ) -> JSON:
        """Make one artifact inside the folder ``output``, which is created.

        Args:
            source: the baseline's file.
            recipe: a :class:`~pytest_edgeai.records.Recipe`.
            architecture: class of the model.
            inputs: the baseline's inputs, each a :class:`~pytest_edgeai.records.TensorSpec`.
            calibration: ``{"arrays": {input: path}, "batch": int or None}``, or ``None``.
            output: folder for the artifact.

        Returns:
            ``{"path", "log", "seconds"}``.

        Raises:
            MeasurementError: there is no space for it, or for a file on the way to it.
        """
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        specs = tuple(samples_of.tensor_spec(spec) for spec in inputs)
        request = OptimizeRequest(
            source=Path(source),
            recipe=Recipe(**recipe),
            architecture=cast("Architecture", architecture),
            inputs=specs,
            calibration=samples_of.calibration_of(calibration, specs),
            output=folder,
        )
        begin = time.perf_counter()
        try:
            result = self._framework.optimize(request, self._progress)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            raise MeasurementError(
                f"the artifact, or what it is made of, cannot be written: {error.strerror}"
            ) from error
        seconds = time.perf_counter() - begin
        if not result.path.is_file() and not (result.path / "config.json").is_file():
            raise ModelError(
                f"the framework reported success and made no model {result.path.name}",
                where=str(folder),
            )
        return {"path": str(result.path), "log": list(result.log), "seconds": seconds}

    def load(self, handle: str, path: str, runtime: Mapping[str, JSON]) -> JSON:
        """Load a model under the name ``handle``, replacing one of that name.

        Returns:
            ``{"inputs", "outputs", "seconds"}``, with tensor specifications.
        """
        self.unload(handle)
        begin = time.perf_counter()
        model = self._tensors().load(Path(path), RuntimeOptions(**runtime))
        seconds = time.perf_counter() - begin
        self._models[handle] = model
        return {
            "inputs": to_json(list(model.inputs)),
            "outputs": to_json(list(model.outputs)),
            "seconds": seconds,
        }

    def unload(self, handle: str) -> JSON:
        """Release the model ``handle``; nothing happens where there is none."""
        self._calls.pop(handle, None)
        model = self._models.pop(handle, None)
        if model is not None:
            model.close()
        return {}

    def execution(self, handle: str) -> JSON:
        """Return ``{"executed_precisions", "executed_devices"}`` of the model ``handle``."""
        return to_json(self._model(handle).execution())

    def prepare(
        self, handle: str, arrays: Mapping[str, str], first: int, batch: int | None
    ) -> JSON:
        """Bind samples ``first`` to ``first + batch`` for :meth:`time_calls`.

        ``batch`` is ``None`` where the model has no batch axis: sample ``first`` is fed as it is.
        """
        model = self._model(handle)
        self._calls[handle] = model.bind(_feeds(model, arrays, first, batch))
        gc.collect()
        return {}

    def time_calls(self, handle: str, calls: int, core: int | None = None) -> JSON:
        """Time ``calls`` calls with the samples of :meth:`prepare`.

        ``core`` is where the process is put before them; ``None`` leaves it where it is.

        Returns:
            ``{"wall_ns", "cpu_ns", "preemptions"}``, see
            :func:`pytest_edgeai.worker.timing.time_calls`, and whether the process was put on
            ``core``, as ``"placed"``.
        """
        call = self._calls.get(handle)
        if call is None:
            raise ProtocolError(f"nothing is prepared for {handle!r}")
        placed = core is None or run_on(core, self._cores)
        timed = time_calls(call, calls)
        return {
            "placed": placed,
            "wall_ns": timed.wall_ns,
            "cpu_ns": timed.cpu_ns,
            "preemptions": timed.preemptions,
        }

    def evaluate(
        self,
        handle: str,
        arrays: Mapping[str, str],
        samples: int,
        batch: int | None,
        output: str,
    ) -> JSON:
        """Run ``samples`` samples and write the outputs as ``.npy`` into the folder ``output``.

        Returns:
            ``{"outputs": {name: path}, "seconds", "run_seconds"}``; shape ``(samples, ...)`` each.
        """
        begin = time.perf_counter()
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        opened = samples_of.open_arrays(arrays)
        done = samples_of.evaluate(self._model(handle), opened, samples, batch, folder)
        return {
            "outputs": {name: str(path) for name, path in done.outputs.items()},
            "seconds": time.perf_counter() - begin,
            "run_seconds": done.run_seconds,
        }

    def measure_memory(
        self,
        path: str,
        runtime: Mapping[str, JSON],
        arrays: Mapping[str, str],
        first: int,
        batch: int | None,
        calls: int,
    ) -> JSON:
        """Measure what a model takes in this process, which must not have done anything else.

        Returns:
            What :func:`~pytest_edgeai.worker.memory.memory_growth` states.

        Raises:
            MeasurementError: this worker did other work before, or the platform does not permit it.
        """
        if self._performed > 1:
            raise MeasurementError("memory is measured in a process that has done nothing before")
        options = RuntimeOptions(**runtime)
        framework = self._tensors()
        meter = peak_meter()
        opened = samples_of.open_arrays(arrays)
        feeds = samples_of.take(opened, first, batch)
        null = framework.load_null_model(options)
        null.run(_zeros(null))
        meter.read()  # what reading itself takes is not the model's
        gc.collect()
        meter.reset()
        before = meter.read()
        model = framework.load(Path(path), options)
        samples_of.check_inputs(opened, model.inputs, batch)
        call = model.bind(feeds)
        for _ in range(calls):
            call()
        after = meter.read()
        model.close()
        null.close()
        return memory_growth(meter, before, after, Path(path), is_mapped=maps_weights(options))

    def memory_now(self) -> JSON:
        """Return what this process holds, see :func:`pytest_edgeai.worker.resident.memory_now`.

        Young garbage is collected first: :func:`time_calls` keeps Python from doing so, and cycles
        that nobody has looked for yet are not held for good.
        """
        gc.collect(1)
        return memory_now()

    def run_on(self, core: int | None) -> JSON:
        """Put this process on one core, ``None`` on all; return whether that was done."""
        return run_on(core, self._cores)

    def _tensors(self) -> Framework:
        if not hasattr(self._framework, "load"):
            raise ModelError(f"{type(self._framework).__name__} runs language models alone")
        return cast("Framework", self._framework)

    def _model(self, handle: str) -> LoadedModel:
        model = self._models.get(handle)
        if model is None:
            raise ProtocolError(f"no model is loaded as {handle!r}")
        return model

    def _progress(self, what: str, fraction: float) -> None:
        self._connection.progress(self._request_id, what, fraction)


def _make_framework(implementation: str) -> Framework | LanguageFramework:
    module_name, _, class_name = implementation.partition(":")
    module = importlib.import_module(module_name)
    return cast("Framework | LanguageFramework", getattr(module, class_name)())


def _report(
    connection: Connection, request_id: int, error: BaseException, required: list[str]
) -> None:
    installed = {name for name in required if _is_installed(name)}
    missing = [name for name in required if name not in installed]
    failure = to_failure(request_id, error, missing)
    if needs_traceback(failure):
        # Printed before it is reported, so that the parent finds it when it looks.
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    connection.send(failure)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _feeds(model: LoadedModel, arrays: Mapping[str, str], first: int, batch: int | None) -> Feeds:
    opened = samples_of.open_arrays(arrays)
    samples_of.check_inputs(opened, model.inputs, batch)
    return samples_of.take(opened, first, batch)


def _zeros(model: LoadedModel) -> Feeds:
    return {
        spec.name: np.zeros([axis or 1 for axis in spec.shape], spec.dtype) for spec in model.inputs
    }
