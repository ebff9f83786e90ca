"""Planted models that several threads work on, that a batch makes longer, or that only wait.

Imported by worker processes; see :mod:`pytest_edgeai.selfcheck.planted`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pytest_edgeai.optimize.frameworks.base import Feeds
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.planted import LoadedPlanted, Planted, PlantedModel

SHARED_SIZE = 320
"""Width of matrices whose product OpenBLAS shares out among its threads."""


class _Threaded(LoadedPlanted):
    """Products that NumPy's BLAS computes with as many threads as there are cores."""

    def __init__(self, model: PlantedModel) -> None:
        super().__init__(model)
        generator = np.random.default_rng(0)
        shape = (2, SHARED_SIZE, SHARED_SIZE)
        self._large = generator.standard_normal(shape, dtype=np.float32)
        self._out = np.empty(shape[1:], np.float32)
        self._products = model.repetitions

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return the work."""

        def work() -> None:
            left, right = self._large
            for _ in range(self._products):
                np.matmul(left, right, out=self._out)

        return work


class _Batched(LoadedPlanted):
    """The work once for each sample of a call."""

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return the work of a batch."""
        samples = len(feeds["x"])
        work = super().bind(feeds)

        def batch() -> None:
            for _ in range(samples):
                work()

        return batch


class _Waiting(LoadedPlanted):
    """A device that works beside the process, which waits: a microsecond for each repetition."""

    def __init__(self, model: PlantedModel) -> None:
        super().__init__(model)
        self._wait_s = model.repetitions / 1e6

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return the wait."""
        return lambda: time.sleep(self._wait_s)


class Threaded(Planted):
    """The framework of models that several threads work on."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load a planted model."""
        return _Threaded(_read(path))


class Batched(Planted):
    """The framework of models whose calls answer a batch."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load a planted model."""
        return _Batched(_read(path))


class Waiting(Planted):
    """The framework of models that a device beside the process runs."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        """Load a planted model."""
        return _Waiting(_read(path))


def _read(path: Path) -> PlantedModel:
    return PlantedModel(**json.loads(path.read_text(encoding="utf-8")))
