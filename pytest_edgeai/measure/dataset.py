"""Evaluation and calibration data: read without unpickling, matched to a model, staged on disk."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.files import cannot_write
from pytest_edgeai.measure.divisions import SLICES, take_slices
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.specification import DataSource

LABELS = "labels"
CLASSES = "classes"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that a model can be fed with.

    Attributes:
        arrays: model input name to array; axis 0 counts the samples.
        labels: shape ``(samples, ...)``; ``None`` where the source has none.
        classes: class names in the order of the output's columns, where the source names them.
        samples: number of samples, at least 1.
        where: the manifest's key, for errors.
        slices: array name to the slice that each sample belongs to, integers or strings, shape
            ``(samples,)``.
    """

    arrays: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    classes: tuple[str, ...] | None
    samples: int
    where: str
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the hex SHA-256 over names, dtypes, shapes and bytes of the input arrays."""
        return digest_arrays(self.arrays)


@dataclass(frozen=True)
class Batching:
    """How samples become calls.

    Attributes:
        batch: samples per call; ``None`` where the model has no batch axis and takes a bare sample.
        fixed: whether the model itself prescribes the batch.
    """

    batch: int | None
    fixed: bool

    @property
    def samples_per_call(self) -> int:
        """Samples that one call answers."""
        return self.batch or 1


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the hex SHA-256 over names, dtypes, shapes and bytes of ``arrays``, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.view(np.uint8).reshape(-1).data if array.size else b"")
    return digest.hexdigest()


def check_npz_header(source: DataSource) -> None:
    """Check, without reading the samples, that a ``.npz`` is whole and holds no pickled objects.

    Raises:
        ModelError: not a ``.npz``, truncated, pickled, or empty; names the array.
    """
    if source.path is None:
        return
    shapes = {name: shape for name, (shape, _) in npz_headers(source).items()}
    if not shapes:
        raise ModelError(f'"{source.path.name}" holds no array', where=source.where)
    for name, shape in shapes.items():
        if name != CLASSES and (not shape or shape[0] == 0):
            raise ModelError(
                f'array "{name}" of "{source.path.name}" has no samples (shape {shape})',
                where=source.where,
            )


def npz_headers(source: DataSource) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return name, shape and dtype of every array in a ``.npz`` from the headers alone.

    Raises:
        ModelError: not a ``.npz``, truncated, or pickled.
    """
    path = source.path
    assert path is not None
    headers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = np.lib.format.read_magic(file)
                    if version[0] == 1:
                        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                    else:
                        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
                name = entry.filename.removesuffix(".npy")
                if dtype.hasobject:
                    raise ModelError(
                        f'array "{name}" of "{path.name}" holds pickled objects',
                        where=source.where,
                        allowed="numbers, booleans and fixed-width strings",
                        advice="Pickles run code when they are read, so they are refused",
                    )
                if entry.file_size < int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
                    raise ModelError(f'"{path.name}" is cut short', where=source.where)
                headers[name] = (shape, dtype)
    # zipfile raises RuntimeError for an entry that is, or damage says is, encrypted.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise ModelError(
            f'"{path.name}" is not a readable .npz file ({error})',
            where=source.where,
            allowed="numpy.savez(...)",
        ) from None
    except OSError as error:
        raise ModelError(
            f'"{path.name}" cannot be read ({error.strerror})', where=source.where
        ) from None
    return headers


def load_dataset(
    source: DataSource,
    inputs: Iterable[TensorSpec],
    *,
    directory: Path,
    needs_labels: bool,
    slices: tuple[str, ...] | None = None,
    needs_slices: bool = False,
) -> Dataset:
    """Read a data source and match it to a model's inputs.

    Args:
        source: where the samples come from.
        inputs: the model's inputs.
        directory: put on the import path for ``"package.module:callable"``.
        needs_labels: whether a missing ``labels`` array is an error.
        slices: names of the arrays that divide the samples; ``None``: ``slices``, if it is there.
        needs_slices: whether a missing array of ``slices`` is an error.

    Raises:
        ModelError: arrays are missing, unknown, pickled, empty, of unequal length, or do not fit.
    """
    return fit_arrays(
        load_arrays(source, directory),
        inputs,
        source.where,
        needs_labels=needs_labels,
        slices=slices,
        needs_slices=needs_slices,
    )


def fit_arrays(
    raw: dict[str, NDArray[Any]],
    inputs: Iterable[TensorSpec],
    where: str,
    *,
    needs_labels: bool,
    slices: tuple[str, ...] | None,
    needs_slices: bool,
) -> Dataset:
    """Match arrays, given by name, to a model's inputs; all else as in :func:`load_dataset`."""
    labels = raw.pop(LABELS, None)
    classes = raw.pop(CLASSES, None)
    specs = {spec.name: spec for spec in inputs}
    divisions = take_slices(raw, specs, slices, where, needed=needs_slices)
    for name in raw:
        if name not in specs:
            raise ModelError(
                f'array "{name}" is no input of the model',
                where=where,
                allowed=", ".join([*specs, LABELS, CLASSES, *(slices or (SLICES,))]),
                advice=did_you_mean(name, specs),
            )
    for name, spec in specs.items():
        if name not in raw:
            raise ModelError(
                f'no array "{name}"',
                where=where,
                allowed=f"one array per model input: {', '.join(specs)}",
            )
        _check_dtype(raw[name], spec, where)
    lengths = {name: len(array) if array.ndim else 0 for name, array in raw.items()}
    samples = next(iter(lengths.values()))
    if min(lengths.values()) == 0:
        raise ModelError("holds no samples", where=where, allowed="at least one sample")
    if labels is not None:
        lengths[LABELS] = len(labels) if labels.ndim else 0
    elif needs_labels:
        raise ModelError(f'no array "{LABELS}"', where=where, allowed="one label per sample")
    lengths.update({name: len(array) for name, array in divisions.items()})
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ModelError(
            f"arrays of different length ({text})", where=where, allowed="one row per sample"
        )
    names = None if classes is None else _class_names(classes, where)
    arrays = {name: raw[name] for name in specs}
    return Dataset(arrays, labels, names, samples, where, divisions)


def load_arrays(source: DataSource, directory: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a source in this machine's byte order.

    Raises:
        ModelError: the source cannot be read, or returns something else.
    """
    raw = _load_npz(source) if source.path is not None else _call(source, directory)
    return {name: _native(array) for name, array in raw.items()}


def _class_names(classes: NDArray[Any], where: str) -> tuple[str, ...]:
    if (
        classes.ndim != 1
        or classes.dtype.kind not in "UT"
        or len(set(classes.tolist())) < len(classes)
    ):
        raise ModelError(
            f'array "{CLASSES}" is {classes.dtype} of shape {classes.shape}',
            where=where,
            allowed="different strings, one per column of the output",
        )
    return tuple(str(item) for item in classes.tolist())


def _load_npz(source: DataSource) -> dict[str, NDArray[Any]]:
    check_npz_header(source)
    assert source.path is not None
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise ModelError(
            f'"{source.path.name}" cannot be read ({error})', where=source.where
        ) from None
    except MemoryError:
        raise ModelError(
            f'"{source.path.name}" does not fit into memory', where=source.where
        ) from None


def import_reference(reference: str, directory: Path, where: str) -> Any:
    """Return the object that ``"package.module:object"`` names, with ``directory`` importable.

    Raises:
        ModelError: the module or the object cannot be had.
    """
    module_name, _, attribute = reference.partition(":")
    sys.path.insert(0, str(directory))
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f'"{reference}" cannot be imported ({type(error).__name__}: {error})', where=where
        ) from error
    finally:
        sys.path.remove(str(directory))
    return found


def _call(source: DataSource, directory: Path) -> dict[str, NDArray[Any]]:
    assert source.reference is not None
    function = import_reference(source.reference, directory, source.where)
    try:
        raw = function()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f'"{source.reference}" raised {type(error).__name__}: {error}', where=source.where
        ) from error
    if not isinstance(raw, Mapping) or not all(
        isinstance(name, str) and isinstance(array, np.ndarray) for name, array in raw.items()
    ):
        raise ModelError(
            f'"{source.reference}" returned no mapping of names to arrays',
            where=source.where,
            allowed="{input name: numpy array, ..., 'labels': numpy array}",
        )
    for name, array in raw.items():
        if array.dtype.hasobject:
            raise ModelError(
                f'array "{name}" holds Python objects', where=source.where, allowed="plain arrays"
            )
    return dict(raw)


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in this machine's byte order, which runtimes take for granted."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_dtype(array: NDArray[Any], spec: TensorSpec, where: str) -> None:
    kind = "str" if array.dtype.kind == "U" else array.dtype.name
    if kind != spec.dtype:
        raise ModelError(
            f'array "{spec.name}" is {kind} and the model takes {spec.dtype}',
            where=where,
            allowed=spec.dtype,
            advice=f'Save it with .astype("{spec.dtype}")' if spec.dtype != "str" else "",
        )


def batching(dataset: Dataset, inputs: Iterable[TensorSpec], *, open_batch: int) -> Batching:
    """Return how the samples are fed, and check every shape.

    Args:
        dataset: the samples.
        inputs: the model's inputs.
        open_batch: samples per call where the model leaves its batch axis open.

    Raises:
        ModelError: a sample's shape does not fit, or the inputs disagree about the batch.
    """
    plans: dict[str, Batching] = {}
    for spec in inputs:
        array = dataset.arrays[spec.name]
        if not spec.has_shape:
            plans[spec.name] = Batching(open_batch, False)
            continue
        if array.ndim == len(spec.shape):
            first, rest = spec.shape[0], spec.shape[1:]
            plans[spec.name] = Batching(open_batch if first is None else first, first is not None)
        elif array.ndim == len(spec.shape) + 1:
            rest = spec.shape
            plans[spec.name] = Batching(None, True)
        else:
            raise _misfit(spec, array, dataset.where)
        if any(
            want is not None and want != have
            for want, have in zip(rest, array.shape[1:], strict=True)
        ):
            raise _misfit(spec, array, dataset.where)
    fixed = {plan for plan in plans.values() if plan.fixed}
    if len(fixed) > 1:
        text = ", ".join(f"{name} {plan.batch or 'none'}" for name, plan in plans.items())
        raise ModelError(
            f"the model's inputs disagree about the batch ({text})", where=dataset.where
        )
    chosen = next(iter(fixed), None) or next(iter(plans.values()))
    if chosen.batch == 0:
        raise ModelError("the model takes batches of 0 samples", where=dataset.where)
    return chosen


def _misfit(spec: TensorSpec, array: NDArray[Any], where: str) -> ModelError:
    wanted = " x ".join("any" if axis is None else str(axis) for axis in spec.shape)
    return ModelError(
        f'array "{spec.name}" has shape {array.shape} and the model\'s input is '
        f"{wanted or 'a scalar'}",
        where=where,
        allowed="axis 0 counts the samples, the other axes equal the input's",
    )


def stage_arrays(arrays: Mapping[str, NDArray[Any]], directory: Path) -> dict[str, str]:
    """Write arrays as ``.npy`` files that workers can map; return input name to path.

    Raises:
        UserError: they cannot be written.
    """
    paths: dict[str, str] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number, (name, array) in enumerate(arrays.items()):
            path = directory / f"input-{number}.npy"
            np.save(path, np.ascontiguousarray(array), allow_pickle=False)
            paths[name] = str(path)
    except OSError as error:
        if error.errno is None:
            # NumPy reports that a disk is full without the system's error number.
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise cannot_write(directory, error) from None
    return paths
