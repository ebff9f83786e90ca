"""Loaded language models in workers: scored block by block, timed phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.bench import (
    START_LIMIT_S,
    LoadedRunnable,
    Runnable,
    Samples,
    measure_in_fresh_process,
)
from pytest_edgeai.measure.energy import Spent
from pytest_edgeai.measure.timed import CallTimes, Turns
from pytest_edgeai.records import OutputSanity, PairedQuality, TokenComparison
from pytest_edgeai.worker.host import Worker, WorkerSpec

PERPLEXITY = "perplexity"
MODEL = "model"
Phase: TypeAlias = Literal["decode", "prefill", "first_token"]
Role: TypeAlias = Literal["reference", "comparison", "alone"]


@dataclass(frozen=True)
class LanguagePlan:
    """How a language model is fed.

    Attributes:
        ids: ``.npy`` file of int32 token ids, shape ``(blocks, context_tokens)``.
        blocks: number of blocks.
        context_tokens: tokens of a block, which the model reads in one pass.
        prompt_tokens: tokens in the cache while one more is decoded, and of the prompt whose first
            answer is timed.
    """

    ids: str
    blocks: int
    context_tokens: int
    prompt_tokens: int

    def tokens_of(self, phase: Phase) -> int:
        """Return how many tokens of the first block a phase is bound to."""
        return {
            "decode": self.prompt_tokens + 1,
            "prefill": self.context_tokens,
            "first_token": self.prompt_tokens,
        }[phase]

    def tokens_per_call(self, phase: Phase) -> int:
        """Return how many tokens one timed call of a phase processes."""
        return 1 if phase == "decode" else self.tokens_of(phase)


class LoadedLanguageRunnable(LoadedRunnable):
    """A language model loaded in a worker of its own; timed, it decodes one token."""

    def __init__(
        self,
        runnable: Runnable,
        samples: Samples | None,
        plan: LanguagePlan,
        *,
        time_limit_s: float,
    ) -> None:
        """Start the worker and load the model.

        Raises:
            EdgeAIError: the framework is missing, the model is refused, or the worker failed.
        """
        self.plan = plan
        self._bound_phase: Phase | None = None
        super().__init__(runnable, samples, time_limit_s=time_limit_s)

    def _open(self) -> None:
        answer = self._ask(
            "load_language_model",
            handle=MODEL,
            path=str(self.runnable.path),
            runtime=self.runnable.runtime,
            context_tokens=self.plan.context_tokens,
        )
        self.vocabulary = int(answer["vocabulary"])
        self.kv_cache_bytes: int | None = answer["kv_cache_bytes"]

    def phase(self, phase: Phase) -> TimedPhase:
        """Return one phase of generating, to be timed."""
        return TimedPhase(self, phase)

    def time_phase(self, phase: Phase, calls: int) -> CallTimes:
        """Run one phase ``calls`` times; see :meth:`LoadedRunnable.time_calls`."""
        self._bind(phase)
        return super().time_calls(calls)

    def order_turns_in(
        self, phase: Phase, calls: Sequence[int], number: int, after: int | None
    ) -> Callable[[], Turns]:
        """Tell it of turns in one phase; see :meth:`LoadedRunnable.order_turns`."""
        self._bind(phase)
        return super().order_turns(calls, number, after)

    def order_turns(
        self, calls: Sequence[int], number: int, after: int | None
    ) -> Callable[[], Turns]:
        """Decode one token in each call; see :meth:`LoadedRunnable.order_turns`."""
        return self.order_turns_in("decode", calls, number, after)

    def _bind(self, phase: Phase) -> None:
        if self._bound_phase != phase:
            self._bound_phase = None
            self._ask(
                "bind_phase",
                handle=MODEL,
                phase=phase,
                ids=self.plan.ids,
                block=0,
                tokens=self.plan.tokens_of(phase),
            )
            self._bound_phase = phase

    def time_calls(self, calls: int) -> CallTimes:
        """Decode one token ``calls`` times at the same depth of the cache."""
        return self.time_phase("decode", calls)

    def run_calls(self, calls: int) -> Spent:
        """Decode one token ``calls`` times at the same depth of the cache."""
        if self._bound_phase != "decode":
            self.time_phase("decode", 1)
        return super().run_calls(calls)

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Refuse: a language model is scored, block by block."""
        raise MeasurementError("a language model has no outputs per sample; it is scored on tokens")

    def score(self, block: int, exchange: Path, role: Role) -> Mapping[str, Any]:
        """Score one block; see :meth:`pytest_edgeai.worker.language.LanguageModels.score`."""
        self._bound_phase = None
        self.run_on(None)
        answer: Mapping[str, Any] = self._ask(
            "score", handle=MODEL, ids=self.plan.ids, block=block, exchange=str(exchange), role=role
        )
        return answer

    def generate(self, tokens: list[int], count: int) -> list[int]:
        """Return up to ``count`` tokens decoded greedily after ``tokens``."""
        self._bound_phase = None
        self.run_on(None)
        answer: Mapping[str, Any] = self._ask("generate", handle=MODEL, tokens=tokens, count=count)
        return [int(token) for token in answer["tokens"]]

    def execution(self) -> Mapping[str, Any]:
        """Return what the runtime says it executes."""
        answer: Mapping[str, Any] = self._ask("language_execution", handle=MODEL)
        return answer


class TimedPhase:
    """One phase of a loaded language model; see :class:`pytest_edgeai.measure.timed.Timed`."""

    def __init__(self, model: LoadedLanguageRunnable, phase: Phase) -> None:
        """Time ``phase`` of ``model``."""
        self._model = model
        self._phase = phase
        self.cpu_time_is_valid = model.cpu_time_is_valid

    def time_calls(self, calls: int) -> CallTimes:
        """Run the phase ``calls`` times and return the times of each call."""
        return self._model.time_phase(self._phase, calls)

    def run_on(self, core: int | None) -> bool:
        """See :meth:`~pytest_edgeai.measure.bench.LoadedRunnable.run_on`."""
        return self._model.run_on(core)

    def listen(self, path: str) -> None:
        """See :class:`~.timed.TakesTurns`."""
        self._model.listen(path)

    def join(self, path: str) -> None:
        """See :class:`~.timed.TakesTurns`."""
        self._model.join(path)

    def order_turns(
        self, calls: Sequence[int], number: int, after: int | None
    ) -> Callable[[], Turns]:
        """See :class:`~.timed.TakesTurns`."""
        return self._model.order_turns_in(self._phase, calls, number, after)


def compare_text(
    baseline: LoadedLanguageRunnable,
    candidate: LoadedLanguageRunnable,
    exchange: Path,
    progress: Callable[[int], None],
) -> tuple[PairedQuality, OutputSanity, TokenComparison]:
    """Score every block with both models.

    Args:
        baseline: the reference.
        candidate: what is compared with it.
        exchange: stem of two scratch files of one block's logits each; removed at the end.
        progress: called with the number of blocks done.

    Returns:
        The mean negative log-likelihood of each block, what was wrong with the outputs, and the
        comparison token by token.
    """
    plan = candidate.plan
    breaches: tuple[str, ...] = ()
    if baseline.vocabulary != candidate.vocabulary:
        breaches = (
            f"the vocabulary had {baseline.vocabulary} tokens and has {candidate.vocabulary}",
        )
    role: Role = "alone" if breaches else "comparison"
    exchanges = [exchange.with_name(f"{exchange.name}-{side}") for side in (0, 1)]
    answers: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] = ([], [])
    # Nothing is timed here, so the baseline reads the next block while the candidate reads this.
    ahead = ThreadPoolExecutor(1)
    try:
        coming = ahead.submit(baseline.score, 0, exchanges[0], "reference")
        for block in range(plan.blocks):
            answers[0].append(coming.result())
            if block + 1 < plan.blocks:
                place = exchanges[(block + 1) % 2]
                coming = ahead.submit(baseline.score, block + 1, place, "reference")
            answers[1].append(candidate.score(block, exchanges[block % 2], role))
            progress(block + 1)
    finally:
        # A block that is still being read is answered, or its worker ended, before anything else.
        ahead.shutdown(wait=True, cancel_futures=True)
        for place in exchanges:
            place.unlink(missing_ok=True)
    nll = [_figures(side, "nll") for side in answers]
    likeliest = [np.asarray([a["likeliest"] for a in side], dtype=np.int64) for side in answers]
    shape = nll[0].shape
    divergence = np.full(shape, np.nan) if breaches else _figures(answers[1], "divergence")
    quality = PairedQuality(
        PERPLEXITY, "perplexity", nll[0].mean(axis=1), nll[1].mean(axis=1), None
    )
    faults = {
        name: sum(max(0, c[name] - b[name]) for b, c in zip(*answers, strict=True))
        for name in ("nan", "infinite")
    }
    constant = len(np.unique(likeliest[0])) > 1 and len(np.unique(likeliest[1])) == 1
    sanity = OutputSanity(
        samples=plan.blocks,
        contract_breaches=breaches,
        nan_outputs={"logits": faults["nan"]} if faults["nan"] else {},
        inf_outputs={"logits": faults["infinite"]} if faults["infinite"] else {},
        constant_outputs=("logits",) if constant else (),
        collapsed_classes=(),
        class_support={},
    )
    comparison = TokenComparison(
        blocks=np.repeat(np.arange(plan.blocks, dtype=np.int64), shape[1]),
        baseline_nll=nll[0].reshape(-1),
        candidate_nll=nll[1].reshape(-1),
        divergence=divergence.reshape(-1),
        agrees=(likeliest[0] == likeliest[1]).reshape(-1),
    )
    return quality, sanity, comparison


def measure_language_memory(
    runnable: Runnable, plan: LanguagePlan, *, time_limit_s: float
) -> Mapping[str, Any]:
    """Measure a language model's memory in a fresh process, as the worker describes it."""
    return measure_in_fresh_process(
        runnable,
        "measure_language_memory",
        time_limit_s=time_limit_s,
        context_tokens=plan.context_tokens,
        ids=plan.ids,
        tokens=plan.tokens_of("decode"),
    )


def tokenize(runnable: Runnable, text: Path, *, time_limit_s: float) -> list[int]:
    """Return the token ids of a UTF-8 text file by the tokenizer of a model.

    Raises:
        ModelError: the model comes without a tokenizer, or with a broken one.
    """
    spec = WorkerSpec(runnable.framework, runnable.interpreter)
    with Worker.start(spec, time_limit_s=min(START_LIMIT_S, time_limit_s)) as worker:
        answer = worker.request(
            "tokenize", time_limit_s=time_limit_s, path=str(runnable.path), text=str(text)
        )
    return [int(token) for token in answer["ids"]]


def _figures(answers: list[Mapping[str, Any]], name: str) -> Any:
    return np.asarray(
        [[np.nan if value is None else value for value in answer[name]] for answer in answers],
        dtype=np.float64,
    )
