"""The same samples answered under changed conditions: order, process, threads, samples per call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import EdgeAIError, ModelError
from pytest_edgeai.measure.agreement import (
    Decisions,
    Outputs,
    differences,
    is_discrete,
    mismatch,
    spread,
)
from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.dataset import Batching, stage_arrays
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.production_records import ConditionAnswers

FEWEST_SAMPLES = 8
FEWEST_BLOCKS = 4
BATCHES = (1, 3, 8, 32)
"""Samples per call that are tried where the model leaves them open."""
THREADS = (1, 2, 4)
GENERATED_TOKENS = 16
PROMPTS = 4

Kind: TypeAlias = Literal["repeat", "reload", "threads", "batch"]
Load: TypeAlias = Callable[[int | None], LoadedRunnable]
"""Starts a fresh process with a number of threads, ``None`` for the session's."""


@dataclass(frozen=True)
class Condition:
    """How the samples are answered once more.

    Attributes:
        kind: what is changed.
        what: in words.
        is_shuffled: whether the calls come in another order.
        batch: samples per call; ``None``: as in the first condition.
        threads: threads of a fresh process; ``None``: as in the first condition.
    """

    kind: Kind
    what: str
    is_shuffled: bool = False
    batch: int | None = None
    threads: int | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it takes a process of its own."""
        return self.kind in ("reload", "threads")


def conditions(
    batching: Batching | None, *, samples: int, threads: int, cores: int, is_long: bool
) -> tuple[Condition, ...]:
    """Return the conditions that a model's first answers are compared under.

    Args:
        batching: how samples become calls; ``None`` for a language model, which has no batch.
        samples: number of samples.
        threads: the session's; 0 is the runtime's choice.
        cores: cores of the host.
        is_long: whether there is time for more repeats and reloads.
    """
    repeats = [
        Condition("repeat", "again in the same order"),
        Condition("repeat", "in another order", is_shuffled=True),
    ]
    if is_long:
        repeats += [Condition("repeat", "again at the end")]
    batches: list[Condition] = []
    if batching is not None and not batching.fixed:
        sizes = [size for size in BATCHES if size != batching.batch and size <= samples]
        batches = [Condition("batch", f"batches of {size}", batch=size) for size in sizes]
        if sizes and sizes[-1] > 1:
            what = f"batches of {sizes[-1]} in another order"
            batches.append(Condition("batch", what, is_shuffled=True, batch=sizes[-1]))
    reloads = [Condition("reload", "in a fresh process")]
    if is_long:
        reloads.append(Condition("reload", "in a second fresh process", is_shuffled=True))
    counts = [count for count in THREADS if count != threads and count <= max(cores, 2)]
    return (
        *repeats,
        *batches,
        *reloads,
        *(Condition("threads", _thread_words(count), threads=count) for count in counts),
    )


def _thread_words(count: int) -> str:
    return f"with {count} thread{'' if count == 1 else 's'}"


class Answering(Protocol):
    """Gets the answers of a loaded model under a condition, in the order of the samples."""

    def __call__(self, loaded: LoadedRunnable, condition: Condition | None, to: Path) -> Outputs:
        """Return output name to array, axis 0 the samples; ``None`` is the first condition."""
        ...


class TensorAnswers:
    """Answers of a model of tensors, from samples that are staged in two orders."""

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], batching: Batching, folder: Path, *, seed: int
    ) -> None:
        """Stage the samples; whole calls change places, so that each call stays as it was."""
        self._batching = batching
        self._count = len(next(iter(arrays.values())))
        step = batching.samples_per_call
        whole = self._count // step * step
        calls = np.random.default_rng(seed).permutation(whole // step)
        order = (calls[:, np.newaxis] * step + np.arange(step)).reshape(-1)
        self._order: NDArray[np.int64] = np.concatenate([order, np.arange(whole, self._count)])
        self._plain = stage_arrays(arrays, folder / "plain")
        shuffled = {name: array[self._order] for name, array in arrays.items()}
        self._shuffled = stage_arrays(shuffled, folder / "shuffled")

    def __call__(self, loaded: LoadedRunnable, condition: Condition | None, to: Path) -> Outputs:
        """Evaluate all samples."""
        is_shuffled = condition is not None and condition.is_shuffled
        batching = self._batching
        if condition is not None and condition.batch is not None:
            batching = Batching(condition.batch, fixed=False)
        arrays = self._shuffled if is_shuffled else self._plain
        outputs, _ = loaded.evaluate(
            to, lambda what, done: None, Samples(arrays, self._count, batching)
        )
        if not is_shuffled:
            return outputs
        back = np.argsort(self._order)
        return {name: np.asarray(array)[back] for name, array in outputs.items()}


class LanguageAnswers:
    """Answers of a language model: predictions on text, and text that it generates greedily."""

    def __init__(self, plan: LanguagePlan, blocks: Sequence[int], *, seed: int) -> None:
        """Ask about some blocks of the plan's text."""
        self._plan = plan
        self._blocks = list(blocks)
        self._order = np.random.default_rng(seed).permutation(len(self._blocks)).tolist()
        self._ids = np.load(plan.ids, mmap_mode="r", allow_pickle=False)

    def __call__(self, loaded: LoadedRunnable, condition: Condition | None, to: Path) -> Outputs:
        """Return ``nll`` and ``likeliest`` of each token, and ``generated`` of some blocks.

        ``nll`` is float32 and ``likeliest`` int64, shape ``(blocks, tokens - 1)``; ``generated``
        holds the token ids as text, shape ``(prompts,)``, so that one other token is one other
        answer.
        """
        if not isinstance(loaded, LoadedLanguageRunnable):
            raise ModelError("the model was not loaded as a language model")
        positions = range(len(self._blocks))
        if condition is not None and condition.is_shuffled:
            positions = self._order
        nll: dict[int, list[float]] = {}
        likeliest: dict[int, list[int]] = {}
        generated: dict[int, str] = {}
        prompt = self._plan.prompt_tokens
        count = min(GENERATED_TOKENS, self._plan.context_tokens - prompt)
        for position in positions:
            block = self._blocks[position]
            answer = loaded.score(block, to / "unused", "alone")
            nll[position] = [np.nan if value is None else value for value in answer["nll"]]
            likeliest[position] = answer["likeliest"]
            if position < PROMPTS:
                tokens = self._ids[block, :prompt].tolist()
                generated[position] = " ".join(map(str, loaded.generate(tokens, count)))
        rows = range(len(self._blocks))
        return {
            "nll": np.asarray([nll[row] for row in rows], dtype=np.float32),
            "likeliest": np.asarray([likeliest[row] for row in rows], dtype=np.int64),
            "generated": np.asarray([generated[row] for row in sorted(generated)]),
        }


@dataclass(frozen=True, eq=False)
class Compared:
    """A model's answers under every condition, compared with its first ones.

    Attributes:
        first: its first answers.
        answers: one record for each condition.
        raw: ``condition.output`` to the difference of each sample, float64, shape ``(samples,)``.
    """

    first: Outputs
    answers: tuple[ConditionAnswers, ...]
    raw: Mapping[str, NDArray[np.float64]]


def compare_conditions(
    loaded: Callable[[], LoadedRunnable],
    load: Load,
    asked: Sequence[Condition],
    answering: Answering,
    folder: Path,
    *,
    decide: Callable[[Outputs], Decisions | None],
    spreads: Mapping[str, float] | None = None,
    progress: Callable[[str, float], None],
) -> Compared:
    """Answer the samples once, and again under every condition.

    Args:
        loaded: returns the model in the process that answers first; it lives on.
        load: starts the fresh processes, which are ended here.
        asked: the conditions, in order.
        answering: gets the answers.
        folder: for outputs; only the first answers stay there.
        decide: returns the decided classes; ``None`` where the model decides none.
        spreads: output name to the unit of differences; ``None``: the spread of the first answers.
        progress: told what is done, and the share of it.

    Raises:
        EdgeAIError: the model does not answer in the first condition, or its process ended.
    """
    progress("answering the samples for the first time", 0.0)
    first = answering(loaded(), None, folder / "first")
    units = spreads or output_spreads(first)
    decided = decide(first)
    records: list[ConditionAnswers] = []
    raw: dict[str, NDArray[np.float64]] = {}
    for index, condition in enumerate(asked):
        progress(f"answering {condition.what}", (index + 1) / (len(asked) + 1))
        place = folder / f"{index}"
        process: LoadedRunnable | None = None
        try:
            process = load(condition.threads) if condition.is_fresh else None
            outputs = answering(process or loaded(), condition, place)
            record = _compare(condition, index, first, outputs, units, raw)
            if decided is not None:
                record = _with_decisions(record, decided, decide(outputs), units)
            records.append(record)
            del outputs
        except ModelError as error:
            records.append(ConditionAnswers(condition.kind, condition.what, {}, refused=error.what))
        except EdgeAIError as error:
            # A runtime that raises for batches it cannot take lives on; one that died is no answer.
            if process is not None or not loaded().alive or condition.kind != "batch":
                raise
            what = getattr(error, "what", str(error))
            records.append(ConditionAnswers(condition.kind, condition.what, {}, refused=what))
        finally:
            if process is not None:
                process.close()
            shutil.rmtree(place, ignore_errors=True)
    return Compared(first, tuple(records), raw)


def _compare(
    condition: Condition,
    index: int,
    first: Outputs,
    outputs: Outputs,
    units: Mapping[str, float],
    raw: dict[str, NDArray[np.float64]],
) -> ConditionAnswers:
    wrong = mismatch(first, outputs)
    if wrong:
        what = f"{condition.what} ({wrong})"
        return ConditionAnswers(condition.kind, what, dict.fromkeys(first, float("inf")))
    apart: dict[str, float] = {}
    for name, array in first.items():
        found = differences(array, outputs[name]) / units.get(name, 1.0)
        raw[f"{index}.{name}"] = found
        apart[name] = float(found.mean() if is_discrete(array) else found.max(initial=0.0))
    return ConditionAnswers(condition.kind, condition.what, apart)


def _with_decisions(
    record: ConditionAnswers,
    first: Decisions,
    again: Decisions | None,
    units: Mapping[str, float],
) -> ConditionAnswers:
    """Return a record with the decided classes that changed."""
    if again is None or again.classes.shape != first.classes.shape:
        return record
    moved = first.classes != again.classes
    margins = first.margins[moved & np.isfinite(first.margins)]
    widest = float(margins.max(initial=0.0)) / units.get(first.output, 1.0)
    return replace(record, changed_decisions=int(np.count_nonzero(moved)), widest_margin=widest)


def output_spreads(outputs: Outputs) -> dict[str, float]:
    """Return output name to the unit in which its differences are expressed."""
    return {name: 1.0 if is_discrete(a) else spread(a) for name, a in outputs.items()}


def distance(first: Outputs, other: Outputs, units: Mapping[str, float]) -> dict[str, float]:
    """Return the largest difference of each output that both have in one shape.

    Args:
        first: the candidate's answers.
        other: the baseline's.
        units: output name to the unit of the difference.
    """
    found: dict[str, float] = {}
    for name, array in first.items():
        if name in other and other[name].shape == array.shape:
            apart = differences(other[name], array) / units.get(name, 1.0)
            known = apart[np.isfinite(apart)]
            found[name] = float(known.mean() if is_discrete(array) else known.max(initial=0.0))
    return found
