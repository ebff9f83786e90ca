"""Time a language model in a worker and, in turns with it, here, beside llama.cpp's own counters.

``python -m benchmarks.language_counters MODEL.gguf IDS.npy PROMPT_TOKENS PHASE ROUNDS`` is run as a
process of its own and prints one line of JSON: tokens per second of the phase by three accounts.

``worker``: as this package measures and reports it, in a worker process.
``here``: by the same code (the adapter's bound call, ``time_calls``, the turns) in this process.
``counters``: what ``llama_perf_context`` says of the very calls of ``here``. It is reset before a
call and read after it, outside of what is timed. It counts the passes over one token (``n_eval``,
``t_eval_ms``) and over several (``n_p_eval``, ``t_p_eval_ms``), from the beginning of a computation
until somebody waits for its end (``llama_context::synchronize``), as the adapter does in every
call. The medians of both are taken over the same calls.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from benchmarks.common import ONE_THREAD
from benchmarks.language_subjects import load
from pytest_edgeai.measure.language import LanguagePlan, Phase
from pytest_edgeai.measure.latency import run_bursts, summarize
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.optimize.frameworks.llamacpp import LlamaCpp
from pytest_edgeai.optimize.frameworks.llamacpp_model import LlamaCppModel
from pytest_edgeai.stages import STAGE_LIMIT_S
from pytest_edgeai.worker.language import bind_phase
from pytest_edgeai.worker.timing import time_calls


@dataclass
class Counted:
    """A phase of a model of this process; see :class:`pytest_edgeai.measure.timed.Timed`.

    Attributes:
        model: the model.
        call: its bound phase.
        decodes: whether a call is one pass over one token.
        wall_ns: wall time of every call so far.
        counted_ns: what llama.cpp counted of each.
        tokens: the tokens that it counted, of each.
    """

    model: LlamaCppModel
    call: Callable[[], object]
    decodes: bool
    cpu_time_is_valid: bool = True
    wall_ns: list[int] = field(default_factory=list)
    counted_ns: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def run_on(self, core: int | None) -> bool:
        """Leave the core to the scheduler: both models are in this process."""
        return False

    def time_calls(self, calls: int) -> CallTimes:
        """Time every call by itself, and read the counters after it."""
        cpu_ns, preemptions = [], []
        for _ in range(calls):
            self.model.reset_counters()
            times = time_calls(self.call, 1)
            counters = self.model.counters()
            self.wall_ns += times.wall_ns
            cpu_ns += times.cpu_ns
            preemptions += times.preemptions or [0]
            if self.decodes:
                self.counted_ns.append(counters.decode_ns)
                self.tokens.append(counters.decode_tokens)
            else:
                self.counted_ns.append(counters.prefill_ns)
                self.tokens.append(counters.prefill_tokens)
        columns = (self.wall_ns[-calls:], cpu_ns, preemptions)
        return CallTimes(*(np.asarray(column, dtype=np.int64) for column in columns))

    def counted_of(self, judged: list[int]) -> list[float]:
        """Return what llama.cpp counted of the calls whose wall times are ``judged``, in order."""
        found, at = [], 0
        for wall_ns in judged:
            at = self.wall_ns.index(wall_ns, at)
            found.append(self.counted_ns[at])
            at += 1
        return found


def tokens_per_s(rounds: Rounds, index: int, tokens: int) -> float:
    """Return the speed that a report states of one side."""
    found = summarize(rounds, index, cpu_time_is_valid=True, threads=1, batch=1)
    return tokens * 1e9 / found.p50_ns


def main() -> None:
    """See the module."""
    path, ids, prompt, phase, rounds = sys.argv[1:6]
    kind = cast("Phase", phase)
    shape = np.load(ids, mmap_mode="r").shape
    plan = LanguagePlan(ids, shape[0], shape[1], int(prompt))
    tokens = plan.tokens_per_call(kind)
    model = LlamaCpp().load_language_model(Path(path), ONE_THREAD, plan.context_tokens)
    block = np.array(np.load(ids)[0, : plan.tokens_of(kind)])
    here = Counted(model, bind_phase(model, phase, block), tokens == 1)
    loaded = load(Path(path), plan)
    try:
        measured = run_bursts(
            [loaded.phase(kind), here],
            random.Random(),
            rounds=int(rounds),
            time_limit_s=STAGE_LIMIT_S,
        )
    finally:
        loaded.close()
    if set(here.tokens) != {tokens}:
        raise SystemExit(f"llama.cpp counted {sorted(set(here.tokens))} tokens a call: {tokens}")
    counted_ns = float(np.median(here.counted_of(measured.wall_ns[1])))
    print(
        json.dumps(
            {
                "worker": tokens_per_s(measured, 0, tokens),
                "here": tokens_per_s(measured, 1, tokens),
                "counters": tokens * 1e9 / counted_ns,
            }
        )
    )


if __name__ == "__main__":
    main()
