"""Inputs that nobody should send, made from a model's own samples, and what models do with them.

Every model runs in a worker of its own. After each input it answers a reference sample again; an
answer that changed means that the input poisoned the session.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import WorkerFailure
from pytest_edgeai.measure.bench import START_LIMIT_S, Runnable
from pytest_edgeai.measure.dataset import Batching, stage_arrays
from pytest_edgeai.measure.tokens import INPUT_IDS
from pytest_edgeai.production_records import ExtremeAnswer, ExtremeCase
from pytest_edgeai.records import TensorSpec
from pytest_edgeai.worker.host import Worker, WorkerSpec

Feeds = Mapping[str, NDArray[Any]]

SHORTEST_LIMIT_S = 10.0
LIMIT_CALLS = 100
"""A call may take as long as so many calls of the reference, and `SHORTEST_LIMIT_S` at least."""
MOST_BREAKDOWNS = 3
"""Crashes and hangs after which a model is not tried any further."""
MOST_COPIES = 64
MOST_OVERSIZE_BYTES = 32 * 2**20
MOST_OVERSIZE_S = 2.0
LENGTH_FACTOR = 4
_LONG_TEXT = 100_000
_HANDLE = "model"
_HUNG = "no answer within"


@dataclass(frozen=True, eq=False)
class ExtremeInput:
    """One input.

    Attributes:
        name: in words.
        feeds: what the call is fed.
        is_valid: whether it is finite and of the right type and shape.
    """

    name: str
    feeds: Feeds
    is_valid: bool = False


@dataclass(frozen=True)
class Subject:
    """One side of the comparison.

    Attributes:
        runnable: the model.
        context_tokens: longest sequence that a language model is loaded for; ``None`` for a model
            of tensors.
    """

    runnable: Runnable
    context_tokens: int | None = None


def first_call(arrays: Feeds, batching: Batching) -> dict[str, NDArray[Any]]:
    """Return what the first call is fed; samples are repeated where there are too few."""
    if batching.batch is None:
        return {name: np.array(array[0], order="C") for name, array in arrays.items()}
    rows = np.arange(batching.batch)
    return {name: np.array(array[rows % len(array)], order="C") for name, array in arrays.items()}


def extreme_inputs(
    sample: Feeds, specs: Sequence[TensorSpec], batching: Batching, seconds: float
) -> list[ExtremeInput]:
    """Return the extreme inputs of a model of tensors.

    Args:
        sample: what an ordinary call is fed, see `first_call`.
        specs: the model's inputs.
        batching: whether axis 0 is the batch.
        seconds: what an ordinary call takes; it bounds the size of the oversize ones.
    """
    inputs = [*_extreme_values(sample)]
    sized = {spec.name: sample[spec.name] for spec in specs if sample[spec.name].ndim}
    if batching.batch is not None:
        inputs.append(
            ExtremeInput("an empty batch", {name: array[:0] for name, array in sample.items()})
        )
        copies = _copies(sample, seconds)
        if copies > 1:
            grown = {name: np.concatenate([array] * copies) for name, array in sample.items()}
            count = copies * (batching.batch or 1)
            inputs.append(ExtremeInput(f"a batch of {count:,}", grown))
    inputs += _extreme_lengths(sample, specs, 0 if batching.batch is None else 1)
    inputs += _wrong_shapes(sample, sized, batching)
    name, first = next(iter(sample.items()))
    wrong = np.zeros(first.shape, np.int64 if first.dtype.kind == "f" else np.float32)
    inputs.append(ExtremeInput(f"{wrong.dtype} for {_dtype(first)}", {**sample, name: wrong}))
    inputs.append(
        ExtremeInput("a missing input", {key: sample[key] for key in sample if key != name})
    )
    inputs.append(ExtremeInput("an unknown input", {**sample, "no_such_input": first}))
    return inputs


def _extreme_values(sample: Feeds) -> list[ExtremeInput]:
    floats = {name: array for name, array in sample.items() if array.dtype.kind == "f"}
    integers = {name: array for name, array in sample.items() if array.dtype.kind in "iu"}
    texts = {name: array for name, array in sample.items() if array.dtype.kind == "U"}
    inputs: list[ExtremeInput] = []

    def add(
        name: str, arrays: Feeds, value: Callable[[np.dtype[Any]], Any], *, is_valid: bool = False
    ) -> None:
        filled = {key: np.full_like(array, value(array.dtype)) for key, array in arrays.items()}
        inputs.append(ExtremeInput(name, {**sample, **filled}, is_valid))

    if floats:
        add("zeros", floats, lambda dtype: 0, is_valid=True)
        add("the largest number", floats, lambda dtype: np.finfo(dtype).max, is_valid=True)
        add("the lowest number", floats, lambda dtype: np.finfo(dtype).min, is_valid=True)
        add(
            "denormal numbers",
            floats,
            lambda dtype: np.finfo(dtype).smallest_subnormal,
            is_valid=True,
        )
        add("NaN", floats, lambda dtype: np.nan)
        inputs.append(ExtremeInput("one NaN", {**sample, **_with_one(floats, np.nan)}))
        add("infinity", floats, lambda dtype: np.inf)
        add("minus infinity", floats, lambda dtype: -np.inf)
    if integers:
        add("integers of 0", integers, lambda dtype: 0, is_valid=True)
        add("the largest integers", integers, lambda dtype: np.iinfo(dtype).max)
        add("the lowest integers", integers, lambda dtype: np.iinfo(dtype).min)
        signed = {name: array for name, array in integers.items() if array.dtype.kind == "i"}
        if signed:
            add("integers of -1", signed, lambda dtype: -1)
    for name, text in (
        ("empty text", ""),
        ("very long text", "a" * _LONG_TEXT),
        ("odd characters", "\u202e\ufffd\U0001f600\x07\x1b e\u0301"),
    ):
        if texts:
            filled = {key: np.full(array.shape, text) for key, array in texts.items()}
            inputs.append(ExtremeInput(name, {**sample, **filled}))
    return inputs


def _with_one(arrays: Feeds, value: float) -> dict[str, NDArray[Any]]:
    changed = {name: np.array(array) for name, array in arrays.items()}
    for array in changed.values():
        if array.size:
            array.reshape(-1)[0] = value
    return changed


def _copies(sample: Feeds, seconds: float) -> int:
    size = max(1, sum(array.nbytes for array in sample.values()))
    fitting = min(MOST_OVERSIZE_BYTES / size, MOST_OVERSIZE_S / max(seconds, 1e-9))
    return int(max(2, min(MOST_COPIES, fitting))) if size <= MOST_OVERSIZE_BYTES else 1


def _extreme_lengths(
    sample: Feeds, specs: Sequence[TensorSpec], first_axis: int
) -> list[ExtremeInput]:
    """Return inputs whose open axes are empty and too long; none where every axis is fixed."""
    empty, long = dict(sample), dict(sample)
    found = False
    for spec in specs:
        array = sample[spec.name]
        if len(spec.shape) != array.ndim:
            continue
        for axis, size in enumerate(spec.shape):
            if axis >= first_axis and size is None:
                found = True
                empty[spec.name] = np.take(empty[spec.name], [], axis=axis)
                long[spec.name] = np.concatenate([long[spec.name]] * LENGTH_FACTOR, axis=axis)
    if not found:
        return []
    inputs = [ExtremeInput("an empty length", empty)]
    if sum(array.nbytes for array in long.values()) <= MOST_OVERSIZE_BYTES:
        inputs.append(ExtremeInput(f"{LENGTH_FACTOR} times the length", long))
    return inputs


def _wrong_shapes(sample: Feeds, sized: Feeds, batching: Batching) -> list[ExtremeInput]:
    if not sized:
        return []
    name, array = next(iter(sized.items()))
    inputs = [ExtremeInput("one axis too many", {**sample, name: array[np.newaxis]})]
    if array.ndim > (0 if batching.batch is None else 1):
        last = np.take(array, [-1], axis=-1)
        wider = np.concatenate([array, last], axis=-1)
        inputs.append(ExtremeInput("a last axis that is one longer", {**sample, name: wider}))
        flat = array.reshape(-1)
        if flat.ndim != array.ndim:
            inputs.append(ExtremeInput("one axis alone", {**sample, name: flat}))
    return inputs


def _dtype(array: NDArray[Any]) -> str:
    return "text" if array.dtype.kind == "U" else str(array.dtype)


def extreme_tokens(
    tokens: NDArray[np.int32], vocabulary: int, context_tokens: int
) -> list[ExtremeInput]:
    """Return the extreme inputs of a language model.

    Args:
        tokens: an ordinary prompt.
        vocabulary: tokens that the model knows.
        context_tokens: longest sequence that it was loaded for.
    """

    def prompt(name: str, ids: NDArray[np.int32]) -> ExtremeInput:
        return ExtremeInput(name, {INPUT_IDS: ids.astype(np.int32)})

    def ending(last: int) -> NDArray[np.int32]:
        return np.append(tokens[:-1], last).astype(np.int32)

    repeats = -(-2 * context_tokens // len(tokens))
    return [
        prompt("an id beyond the vocabulary", ending(vocabulary)),
        prompt("the largest id there is", ending(np.iinfo(np.int32).max)),
        prompt("a negative id", ending(-1)),
        prompt("an empty prompt", tokens[:0]),
        prompt("a prompt of twice the context", np.tile(tokens, repeats)[: 2 * context_tokens]),
        replace(prompt("one token", tokens[:1]), is_valid=True),
        replace(prompt("the last token of the vocabulary", ending(vocabulary - 1)), is_valid=True),
    ]


class Trial:
    """One model in a worker of its own, which is started again after a crash; a context manager."""

    def __init__(self, subject: Subject, reference: Feeds, folder: Path, limit_s: float) -> None:
        """Start the worker, load the model and answer the reference sample.

        Args:
            subject: the model.
            reference: what an ordinary call is fed.
            folder: for the inputs; the caller removes it.
            limit_s: longest time for starting and loading.

        Raises:
            EdgeAIError: the model does not load, or does not answer the reference.
        """
        self._subject = subject
        self._folder = folder
        self._limit_s = limit_s
        self._breakdowns = 0
        self._reference = stage_arrays(reference, folder / "reference")
        self.vocabulary = 0
        self.seconds = 0.0
        self._worker = self._start()

    def _start(self) -> Worker:
        runnable = self._subject.runnable
        worker = Worker.start(
            WorkerSpec(runnable.framework, runnable.interpreter),
            time_limit_s=min(START_LIMIT_S, self._limit_s),
        )
        try:
            arguments: dict[str, Any] = {
                "handle": _HANDLE,
                "path": str(runnable.path),
                "runtime": runnable.runtime,
            }
            operation = "load"
            if self._subject.context_tokens is not None:
                operation = "load_language_model"
                arguments["context_tokens"] = self._subject.context_tokens
            loaded = worker.request(operation, time_limit_s=self._limit_s, **arguments)
            self.vocabulary = int(loaded.get("vocabulary", 0))
            kept = worker.request(
                "keep_reference",
                time_limit_s=self._limit_s,
                handle=_HANDLE,
                arrays=self._reference,
            )
        except BaseException:
            worker.close()
            raise
        self.seconds = float(kept["seconds"])
        return worker

    def answer(self, extreme: ExtremeInput, call_limit_s: float) -> ExtremeAnswer:
        """Return what the model does with an input.

        Args:
            extreme: the input.
            call_limit_s: how long the call may take, and the reference after it.

        Raises:
            EdgeAIError: the model does not load again after a crash.
        """
        if self._breakdowns >= MOST_BREAKDOWNS:
            return ExtremeAnswer("not_tried", f"it broke down {MOST_BREAKDOWNS} times before")
        if not self._worker.alive:
            self._worker.close()
            self._worker = self._start()
        place = self._folder / "extreme"
        arrays = stage_arrays(extreme.feeds, place)
        try:
            found = self._worker.request(
                "try_input", time_limit_s=call_limit_s, handle=_HANDLE, arrays=arrays
            )
        except WorkerFailure as error:
            return self._broken(error)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        answer = ExtremeAnswer(
            "refused" if found["error"] else "answered",
            found["error"],
            int(found["nan"]),
            int(found["infinite"]),
        )
        try:
            checked = self._worker.request(
                "check_reference", time_limit_s=call_limit_s, handle=_HANDLE
            )
        except WorkerFailure as error:
            self._broken(error)
            return replace(answer, poisoned=f"it gets no answer ({error.what})")
        if checked["change"]:
            # The next input is to meet a model that nothing has touched.
            self._worker.close()
        return replace(answer, poisoned=checked["change"])

    def _broken(self, error: WorkerFailure) -> ExtremeAnswer:
        self._breakdowns += 1
        self._worker.close()
        return ExtremeAnswer("hung" if error.what.startswith(_HUNG) else "crashed", error.what)

    def __enter__(self) -> Self:
        """Return the trial."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the worker."""
        self._worker.close()


def try_extremes(
    baseline: Trial,
    candidate: Trial,
    inputs: Sequence[ExtremeInput],
    *,
    call_limit_s: float | None,
    progress: Callable[[str, float], None],
) -> list[ExtremeCase]:
    """Return what both models do with every input.

    Args:
        baseline: for comparison.
        candidate: what is judged.
        inputs: see `extreme_inputs` and `extreme_tokens`.
        call_limit_s: longest time of a call; ``None`` for what follows from the reference's.
        progress: told the input and the share that is done.
    """
    cases: list[ExtremeCase] = []
    for number, extreme in enumerate(inputs):
        progress(extreme.name, number / len(inputs))
        answers = [
            trial.answer(
                extreme, call_limit_s or max(SHORTEST_LIMIT_S, LIMIT_CALLS * trial.seconds)
            )
            for trial in (baseline, candidate)
        ]
        cases.append(ExtremeCase(extreme.name, extreme.is_valid, *answers))
    return cases
