"""Models whose limit is known by how they are made, profiled in real workers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.peaks import Runtime, measure_peaks, write_product
from pytest_edgeai.measure.profile import (
    CORES_S,
    Work,
    make_profile,
    operator_profile,
    plain_calls,
)
from pytest_edgeai.profile_records import HostPeaks, Profile
from pytest_edgeai.records import RuntimeOptions

LIMIT_S = 60.0
CHAIN = 300
VECTOR_INNER = 4096
"""A vector times a matrix of 64 MiB, which no cache of an ordinary machine holds."""


def compute(folder: Path) -> tuple[Path, int, int]:
    """Write a product of large matrices; return the file and the shape of its input."""
    return write_product(folder / "compute.onnx", quantized=False, rows=512, inner=1024), 512, 1024


def memory(folder: Path) -> tuple[Path, int, int]:
    """Write a product of a vector with a matrix that is read from memory; likewise."""
    path = write_product(folder / "memory.onnx", quantized=False, rows=1, inner=VECTOR_INNER)
    return path, 1, VECTOR_INNER


def samples(folder: Path, rows: int, columns: int) -> Samples:
    """Return staged inputs of one call."""
    path = folder / f"x-{rows}-{columns}.npy"
    np.save(path, np.random.default_rng(2).normal(size=(rows, columns)).astype(np.float32))
    return Samples({"x": str(path)}, rows, Batching(rows, fixed=True))


def profile_of(
    framework: FrameworkDescriptor,
    model: tuple[Path, int, int],
    folder: Path,
    threads: int = 1,
) -> Profile:
    """Return the profile of a model, in a worker of its own."""
    path, rows, columns = model
    runnable = Runnable(framework, Path(sys.executable), path, RuntimeOptions(threads=threads))
    fed = samples(folder, rows, columns)
    loaded = LoadedRunnable(runnable, fed, time_limit_s=LIMIT_S)
    try:
        plain = plain_calls((loaded,), lambda done: None)[0]
        cores = loaded.core_use(CORES_S)
        traced = operator_profile(loaded, fed, None, min(plain.wall_ns))
    finally:
        loaded.close()
    workload = read_structure(path).workload
    work = Work(workload.flops, workload.moved_bytes, workload.note)
    return make_profile(loaded, plain, cores, traced, work, 1)


def peaks_of(
    frameworks: tuple[FrameworkDescriptor, ...],
    folder: Path,
    *,
    threads: int = 1,
    notes: list[str] | None = None,
) -> HostPeaks:
    """Return the peaks of this host by some frameworks."""
    told: list[str] = [] if notes is None else notes
    return measure_peaks(
        [Runtime(each, Path(sys.executable), "onnx" in each.formats) for each in frameworks],
        threads=threads,
        folder=folder,
        memory_bytes=None,
        time_limit_s=LIMIT_S,
        progress=lambda what: None,
        note=told.append,
    )
