"""Calls with inputs that nobody should send, and whether a model answers as before after them.

What :mod:`pytest_edgeai.worker.arrays` would refuse is handed to the runtime as it is, because that
is what a deployed model meets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError, UserError
from pytest_edgeai.records import JSON

Array = NDArray[Any]
TOKENS = "input_ids"
"""The one input of a language model."""
TOLERANCES: Mapping[str, float] = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-5}
"""How far an answer may be off, relative to its largest element: rounding, where an allocation of
another alignment takes another path through a kernel. What a poisoned state changes is far more."""
_LOOSEST = 1e-2
_LONGEST_LINE = 300


class _Tensors(Protocol):
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...


class _Tokens(Protocol):
    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]: ...


class ExtremeInputs:
    """The operations that try inputs on the models of a worker."""

    def __init__(
        self,
        models: Mapping[str, _Tensors],
        language_models: Mapping[str, _Tokens],
    ) -> None:
        """Try inputs on what is loaded.

        Args:
            models: the worker's models of tensors, by handle.
            language_models: its language models.
        """
        self._models = models
        self._language_models = language_models
        self._references: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
        self._tolerances: dict[str, dict[str, float]] = {}
        self.operations: dict[str, Callable[..., JSON]] = {
            "keep_reference": self.keep_reference,
            "try_input": self.try_input,
            "check_reference": self.check_reference,
        }

    def keep_reference(self, handle: str, arrays: Mapping[str, str]) -> JSON:
        """Answer a sample and keep the answer; a model that varies is allowed as much again.

        Args:
            handle: the model.
            arrays: what one call is fed, input name to ``.npy`` path.

        Returns:
            ``{"seconds"}`` of the second of two calls.
        """
        feeds = _read(arrays)
        first = self._run(handle, feeds)
        begin = time.perf_counter()
        second = self._run(handle, feeds)
        seconds = time.perf_counter() - begin
        self._references[handle] = feeds, first
        self._tolerances[handle] = {
            name: _tolerance(value) + 4 * _distance(value, second.get(name, value))
            for name, value in first.items()
        }
        return {"seconds": seconds}

    def try_input(self, handle: str, arrays: Mapping[str, str]) -> JSON:
        """Run a model on an input, whatever it is.

        Returns:
            ``{"error", "nan", "infinite"}``: what it raised, in one line, empty where it answered;
            and how many elements of its answer are NaN and infinite.
        """
        feeds = _read(arrays)
        try:
            outputs = self._run(handle, feeds)
        except Exception as error:  # every kind of refusal is what is asked for
            return {"error": _one_line(error), "nan": 0, "infinite": 0}
        floats = [value for value in outputs.values() if value.dtype.kind in "fc"]
        return {
            "error": "",
            "nan": int(sum(np.isnan(value).sum() for value in floats)),
            "infinite": int(sum(np.isinf(value).sum() for value in floats)),
        }

    def check_reference(self, handle: str) -> JSON:
        """Answer the kept sample again.

        Returns:
            ``{"change"}``: how the answer differs from the one before, empty where it does not.

        Raises:
            MeasurementError: no sample was kept.
        """
        if handle not in self._references:
            raise MeasurementError(f"no reference is kept for {handle!r}")
        feeds, before = self._references[handle]
        try:
            after = self._run(handle, feeds)
        except Exception as error:  # a model that answered before must answer
            return {"change": f"it is refused ({_one_line(error)})"}
        return {"change": _change(before, after, self._tolerances[handle])}

    def _run(self, handle: str, feeds: dict[str, Array]) -> dict[str, Array]:
        if handle in self._language_models:
            logits = self._language_models[handle].logits(feeds[TOKENS])
            return {"logits": np.array(logits)}
        if handle not in self._models:
            raise MeasurementError(f"no model is loaded as {handle!r}")
        outputs = self._models[handle].run(feeds)
        return {name: np.array(value) for name, value in outputs.items()}


def _read(arrays: Mapping[str, str]) -> dict[str, Array]:
    """Return arrays that are read and not mapped: an empty file cannot be."""
    return {name: np.load(path, allow_pickle=False) for name, path in arrays.items()}


def _one_line(error: Exception) -> str:
    """Return what was raised, without the place of the model's file on this machine."""
    said = error.what if isinstance(error, UserError) else str(error)
    lines = f"{type(error).__name__}: {said}".strip().splitlines()
    return " ".join(lines[0].split())[:_LONGEST_LINE]


def _tolerance(value: Array) -> float:
    """Return how far an answer may be off, in its own unit."""
    if value.dtype.kind not in "fc":
        return 0.0
    finite = np.abs(value[np.isfinite(value)].astype(np.float64))
    return TOLERANCES.get(value.dtype.name, _LOOSEST) * float(finite.max(initial=0.0))


def _distance(before: Array, after: Array) -> float:
    """Return the largest difference of two finite answers; 0 where they are no numbers."""
    if before.dtype.kind not in "fc" or before.shape != after.shape:
        return 0.0
    both = np.isfinite(before) & np.isfinite(after)
    apart = np.abs(before[both].astype(np.float64) - after[both].astype(np.float64))
    return float(apart.max(initial=0.0))


def _change(
    before: Mapping[str, Array], after: Mapping[str, Array], tolerances: Mapping[str, float]
) -> str:
    """Return how an answer differs from the one before, in words; empty where it does not."""
    if list(before) != list(after):
        return f"its outputs are {', '.join(after) or 'none'}"
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            return f'output "{name}" was {old.dtype}{old.shape} and is {new.dtype}{new.shape}'
        if old.dtype.kind not in "fc":
            changed = int((old != new).sum())
            if changed:
                return f'{changed} of {old.size} elements of output "{name}" changed'
            continue
        nan = int((np.isnan(new) & ~np.isnan(old)).sum())
        if nan:
            return f'{nan} of {new.size} elements of output "{name}" are NaN'
        strange = ~np.isfinite(old) | ~np.isfinite(new)
        if (strange & ~((old == new) | (np.isnan(old) & np.isnan(new)))).any():
            return f'output "{name}" is infinite where it was not, or the other way round'
        distance = _distance(old, new)
        if distance > tolerances[name]:
            return f'output "{name}" is off by {distance:.3g}'
    return ""
