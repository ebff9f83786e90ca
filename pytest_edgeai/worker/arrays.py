"""Samples on their way into a model, and outputs on their way to disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import LoadedModel
from pytest_edgeai.records import JSON, TensorSpec

Array = NDArray[Any]


def open_arrays(paths: Mapping[str, str]) -> dict[str, Array]:
    """Map ``.npy`` files into memory, read-only; pickled objects are refused.

    Raises:
        ModelError: a file is missing, or is no array of numbers.
    """
    arrays: dict[str, Array] = {}
    for name, path in paths.items():
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"no readable array: {error}", where=f"{path} ({name})") from error
        # A plain view: slicing a memmap costs ten times as much as slicing an array.
        arrays[name] = np.asarray(mapped)
    return arrays


def check_inputs(
    arrays: Mapping[str, Array], inputs: Sequence[TensorSpec], batch: int | None
) -> None:
    """Make sure that ``arrays`` are what ``inputs`` take; nothing is ever cast or reshaped.

    Args:
        arrays: shape ``(samples, ...)`` each.
        inputs: the model's inputs.
        batch: samples per call; ``None`` where a sample is fed without a batch axis.

    Raises:
        ModelError: a name is missing or unknown, or a dtype or shape differs.
    """
    names = [spec.name for spec in inputs]
    allowed = ", ".join(names) or "no input"
    for name in names:
        if name not in arrays:
            raise ModelError(f'no array for the model input "{name}"', allowed=allowed)
    for name in arrays:
        if name not in names:
            raise ModelError(f'the model has no input "{name}"', allowed=allowed)
    for spec in inputs:
        array = arrays[spec.name]
        held = "str" if array.dtype.kind == "U" else array.dtype.name
        if held != spec.dtype:
            raise ModelError(
                f'input "{spec.name}": the array holds {held}, the model takes {spec.dtype}',
                advice="Save the array in the dtype that the model takes",
            )
        fed = array.shape[1:] if batch is None else (batch, *array.shape[1:])
        # Without a shape nothing can be compared; ONNX Runtime does not tell it from a scalar's.
        if array.ndim and spec.shape and not _fits(fed, spec.shape):
            wanted = ", ".join("?" if axis is None else str(axis) for axis in spec.shape)
            raise ModelError(
                f'input "{spec.name}": a call would feed the shape {fed}, '
                f"the model takes ({wanted})",
                advice="Save samples of the shape that the model takes",
            )


def _fits(shape: tuple[int, ...], spec: tuple[int | None, ...]) -> bool:
    return len(shape) == len(spec) and all(
        wanted in (None, axis) for axis, wanted in zip(shape, spec, strict=True)
    )


def take(arrays: Mapping[str, Array], first: int, batch: int | None) -> dict[str, Array]:
    """Return copies of ``batch`` samples from ``first`` on, the last one repeated where they end.

    Args:
        arrays: shape ``(samples, ...)`` each.
        first: index of the first sample.
        batch: samples per call; ``None``: the sample itself, without a batch axis.

    Raises:
        ModelError: there is no such sample.
    """
    feeds: dict[str, Array] = {}
    for name, array in arrays.items():
        if not array.ndim or not 0 <= first < len(array):
            count = len(array) if array.ndim else 0
            raise ModelError(f'input "{name}": there is no sample {first}, only {count}')
        if batch is None:
            feeds[name] = np.array(array[first], order="C")
            continue
        chosen = array[first : first + batch]
        if len(chosen) < batch:
            last = np.broadcast_to(array[-1:], (batch - len(chosen), *array.shape[1:]))
            chosen = np.concatenate([chosen, last])
        feeds[name] = np.array(chosen, order="C")
    return feeds


@dataclass(frozen=True)
class ArrayCalibration:
    """A :class:`~pytest_edgeai.optimize.frameworks.base.Calibration` from arrays.

    Attributes:
        arrays: shape ``(samples, ...)`` each.
        batch: samples per feed; ``None`` where the model has no batch axis.
    """

    arrays: Mapping[str, Array]
    batch: int | None

    def __len__(self) -> int:
        """Return the number of feeds; the last one is filled up with its last sample."""
        samples = min((len(array) for array in self.arrays.values()), default=0)
        return -(-samples // (self.batch or 1))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield the feeds in order."""
        for index in range(len(self)):
            yield take(self.arrays, index * (self.batch or 1), self.batch)


def tensor_spec(fields: Mapping[str, JSON]) -> TensorSpec:
    """Return the tensor specification that a request states."""
    return TensorSpec(**{**fields, "shape": tuple(fields["shape"])})


def calibration_of(
    described: Mapping[str, JSON] | None, inputs: Sequence[TensorSpec]
) -> ArrayCalibration | None:
    """Return the samples that a request states: ``{"arrays": {input: path}, "batch": ...}``.

    Raises:
        ModelError: they do not fit the inputs.
    """
    if described is None:
        return None
    opened = open_arrays(described["arrays"])
    check_inputs(opened, inputs, described["batch"])
    return ArrayCalibration(opened, described["batch"])


@dataclass(frozen=True)
class Evaluation:
    """What running all samples gave.

    Attributes:
        outputs: output name to the file of its values, shape ``(samples, ...)``.
        run_seconds: time spent inside the model.
    """

    outputs: Mapping[str, Path]
    run_seconds: float


def evaluate(
    model: LoadedModel,
    arrays: Mapping[str, Array],
    samples: int,
    batch: int | None,
    folder: Path,
) -> Evaluation:
    """Run ``samples`` samples and write one ``.npy`` per output into ``folder``.

    A last batch that is not full is padded with its last sample where the model's batch axis is
    fixed, and the padding is cut off its outputs.

    Raises:
        ModelError: the arrays do not fit the inputs, or an output has no batch axis.
    """
    check_inputs(arrays, model.inputs, batch)
    for name, array in arrays.items():
        if len(array) < samples:
            raise ModelError(f'input "{name}": {samples} samples asked for, {len(array)} there')
    fixed = any(not spec.shape or spec.shape[0] is not None for spec in model.inputs)
    step = batch or 1
    writers: dict[str, _OutputWriter] = {}
    run_ns = 0
    for first in range(0, samples, step):
        wanted = min(step, samples - first)
        fed = step if fixed else wanted
        feeds = take(arrays, first, None if batch is None else fed)
        begin = time.perf_counter_ns()
        outputs = model.run(feeds)
        run_ns += time.perf_counter_ns() - begin
        if not writers:
            for index, (name, value) in enumerate(outputs.items()):
                if not isinstance(value, (np.ndarray, np.generic)):
                    raise ModelError(
                        f'output "{name}" is no tensor but a {type(value).__name__}',
                        allowed="outputs that are tensors",
                        advice="Export the model without ZipMap (skl2onnx: zipmap=False)",
                    )
                path = folder / f"{index}.npy"
                writers[name] = _OutputWriter(name, value, path, samples, batch, fed)
        for name, value in outputs.items():
            writers[name].write(value, first, wanted, fed)
    for writer in writers.values():
        writer.finish()
    paths = {name: writer.path for name, writer in writers.items()}
    return Evaluation(paths, run_ns / 1e9)


class _OutputWriter:
    """Collects one output of all samples in a file that is mapped into memory."""

    def __init__(
        self, name: str, first: Array, path: Path, samples: int, batch: int | None, fed: int
    ) -> None:
        """Decide from the first value whether axis 0 is the batch, and make room for all."""
        self.name = name
        self.path = path
        has_batch_axis = first.ndim > 0 and first.shape[0] == fed
        self._stacked = batch is None or (batch == 1 and not has_batch_axis)
        if not self._stacked and not has_batch_axis:
            raise ModelError(
                f'output "{name}" has shape {first.shape} for a batch of {fed}: '
                "its first axis is not the batch",
                advice="Export the model with the batch as the first axis of every output, "
                "or evaluate it with a batch of 1",
            )
        self._shape = first.shape if self._stacked else first.shape[1:]
        self._dtype = first.dtype
        self._is_text = first.dtype.hasobject or first.dtype.kind == "U"
        if self._is_text:  # how wide the widest string is shows in the end
            self._values: Array = np.empty((samples, *self._shape), dtype=object)
            return
        mapped = np.lib.format.open_memmap(
            path, mode="w+", dtype=first.dtype, shape=(samples, *self._shape)
        )
        _reserve(path)
        self._values = np.asarray(mapped)

    def write(self, value: Array, first: int, wanted: int, fed: int) -> None:
        """Store the first ``wanted`` of ``fed`` samples from index ``first`` on."""
        expected = self._shape if self._stacked else (fed, *self._shape)
        if value.shape != expected or value.dtype != self._dtype:
            raise ModelError(
                f'output "{self.name}" changes from call to call: {self._dtype.name}{expected} '
                f"at first, {value.dtype.name}{value.shape} for sample {first}",
                advice="Outputs must have one shape for all samples",
            )
        if self._stacked:
            self._values[first] = value
        else:
            self._values[first : first + wanted] = value[:wanted]

    def finish(self) -> None:
        """Write what could not be written before all samples were known."""
        if self._is_text:
            np.save(self.path, self._values.astype(np.str_), allow_pickle=False)


def _reserve(path: Path) -> None:
    """Take the disk space of a sparse file, so that a full disk is an error here.

    Later, when the mapped pages are written, it would be a fatal signal.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
