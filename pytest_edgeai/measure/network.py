"""Run a candidate in a process without network, and collect what it tried to reach."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.measure.bench import START_LIMIT_S, Runnable, Samples
from pytest_edgeai.measure.language import LanguagePlan, Phase
from pytest_edgeai.privacy_records import NetworkAttempt, NetworkWatch
from pytest_edgeai.worker.host import Worker, WorkerSpec
from pytest_edgeai.worker.network import PROBE_HOST, PROBE_PORT

IMPORT, LOAD, INFERENCE, PROBE = "import", "load", "inference", "probe"
TIMED_CALLS = 20
FIRST_CALLS = 3
"""Timed to know how many samples the budget allows; what a plugin does on a later call than the
first shows in them."""
GENERATED_TOKENS = 8
PROMPT_TOKENS = 8
PAUSE_S = 0.25
LOG = "network.jsonl"
_PHASES: tuple[Phase, ...] = ("prefill", "first_token", "decode")
_ATTEMPTS = ("connect", "send", "lookup", "server", "listen")


@dataclass(frozen=True)
class Trial:
    """What is run without network.

    Attributes:
        runnable: the model and how it is run.
        samples: the evaluation samples; of a language model they are not used.
        language: how a language model is fed; ``None`` for any other model.
        budget_s: about how long the evaluation samples may take; ``None``: all of them are run.
        time_limit_s: longest time of one request.
        watch_s: how long the process is watched at least, from its start on; it answers calls
            meanwhile. Frameworks report in the background, long after what they report.
    """

    runnable: Runnable
    samples: Samples
    language: LanguagePlan | None
    budget_s: float | None
    time_limit_s: float
    watch_s: float = 0.0


class _Steps:
    """Lines of a log by the step that they were written in."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self.lines: list[tuple[str, dict[str, Any]]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Everything that is written meanwhile belongs to ``name``, also where it fails."""
        try:
            yield
        finally:
            self._take(name)

    def _take(self, name: str) -> None:
        if not self._log.exists():
            return
        whole = self._log.read_bytes()
        end = whole.rfind(b"\n") + 1
        for line in whole[self._read : end].splitlines():
            self.lines.append((name, json.loads(line)))
        self._read = end


def watch_network(
    trial: Trial, folder: Path, progress: Callable[[str, float], None]
) -> NetworkWatch:
    """Import, load and run a model in a worker that is cut off from the network.

    Every call of a worker is made that a deployed model answers: single calls, timed calls and the
    evaluation samples; of a language model also every phase, scoring and generating.

    Args:
        trial: what is run.
        folder: scratch folder, created here.
        progress: called with what is being done and the fraction done.

    Raises:
        EdgeAIError: it cannot be run, and has not tried to reach anything that would explain it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    log.unlink(missing_ok=True)
    steps = _Steps(log)
    spec = WorkerSpec(trial.runnable.framework, trial.runnable.interpreter, network_log=log)
    samples = calls = 0
    begin = time.monotonic()
    error = ""
    refused = False
    try:
        progress("importing the framework without network", 0.0)
        with steps.step(IMPORT):
            worker = Worker.start(spec, time_limit_s=min(START_LIMIT_S, trial.time_limit_s))
        with worker:
            run = _run_text if trial.language is not None else _run_tensors
            samples, calls = run(worker, trial, steps, folder, progress)
            with steps.step(INFERENCE):
                calls += _linger(worker, trial, begin, progress)
            with steps.step(PROBE):
                answer = worker.request("probe_network", time_limit_s=trial.time_limit_s)
            refused = bool(answer["refused"])
    except EdgeAIError as failure:
        error = " ".join(str(failure).split())
        if not _attempts(steps.lines):
            raise
    guard = next((line for _, line in steps.lines if line["kind"] == "guard"), {})
    probe = f"{PROBE_HOST}:{PROBE_PORT}"
    return NetworkWatch(
        guards=tuple(guard.get("guards", ())),
        missing=guard.get("missing", {}),
        proved=refused and any(s == PROBE and x["to"] == probe for s, x in steps.lines),
        attempts=_attempts([(s, x) for s, x in steps.lines if (s, x["to"]) != (PROBE, probe)]),
        watched_s=time.monotonic() - begin,
        local_sockets=tuple(
            dict.fromkeys(line["to"] for _, line in steps.lines if line["kind"] == "local")
        ),
        samples=samples,
        calls=calls,
        error=error,
    )


def _linger(
    worker: Worker, trial: Trial, begin: float, progress: Callable[[str, float], None]
) -> int:
    """Keep the model in use until it was watched long enough; return the calls."""
    calls = 0
    while (spent_s := time.monotonic() - begin) < trial.watch_s:
        progress("watching it without network", spent_s / trial.watch_s)
        worker.request("time_calls", time_limit_s=trial.time_limit_s, handle="model", calls=1)
        calls += 1
        time.sleep(min(PAUSE_S, max(0.0, trial.watch_s - (time.monotonic() - begin))))
    return calls


def _attempts(lines: list[tuple[str, dict[str, Any]]]) -> tuple[NetworkAttempt, ...]:
    """Return attempts in order, equal ones counted.

    Whom a name server was asked about says more than which server it was; that one is named where
    the question was not seen.
    """
    named = {step for step, line in lines if line["kind"] == "lookup"}
    counts: Counter[tuple[str, str, str, str, str]] = Counter()
    for step, line in lines:
        kind, to = line["kind"], line["to"]
        if kind not in _ATTEMPTS or (kind == "server" and step in named):
            continue
        if kind == "server":
            kind, to = "lookup", f"a name, at {to}"
        shown = INFERENCE if step == PROBE else step
        counts[shown, kind, to, line["protocol"], line["by"]] += 1
    return tuple(NetworkAttempt(*key, count=count) for key, count in counts.items())


def _run_tensors(
    worker: Worker,
    trial: Trial,
    steps: _Steps,
    folder: Path,
    progress: Callable[[str, float], None],
) -> tuple[int, int]:
    """Run a model of tensors; return the samples and the timed calls that it answered."""
    limit_s, samples = trial.time_limit_s, trial.samples
    batch = samples.batching.batch
    with steps.step(LOAD):
        worker.request(
            "load",
            time_limit_s=limit_s,
            handle="model",
            path=str(trial.runnable.path),
            runtime=trial.runnable.runtime,
        )
    with steps.step(INFERENCE):
        worker.request(
            "prepare",
            time_limit_s=limit_s,
            handle="model",
            arrays=samples.arrays,
            first=0,
            batch=batch,
        )
        first = worker.request(
            "time_calls", time_limit_s=limit_s, handle="model", calls=FIRST_CALLS
        )
        call_s = min(first["wall_ns"]) / 1e9
        calls = _allowed(trial, call_s, TIMED_CALLS, share=0.25)
        worker.request("time_calls", time_limit_s=limit_s, handle="model", calls=calls)
        per_call = samples.batching.samples_per_call
        count = _allowed(trial, call_s / per_call, samples.count, share=0.75)
        count = min(samples.count, max(count, per_call))
        what = f"running {count} samples without network"
        worker.request(
            "evaluate",
            time_limit_s=limit_s,
            on_progress=lambda _, done: progress(what, done),
            handle="model",
            arrays=samples.arrays,
            samples=count,
            batch=batch,
            output=str(folder / "outputs"),
        )
        worker.request("execution", time_limit_s=limit_s, handle="model")
    return count, FIRST_CALLS + calls


def _run_text(
    worker: Worker,
    trial: Trial,
    steps: _Steps,
    folder: Path,
    progress: Callable[[str, float], None],
) -> tuple[int, int]:
    """Run a language model; return the blocks and the timed calls that it answered."""
    limit_s, plan = trial.time_limit_s, trial.language
    assert plan is not None
    handle: Mapping[str, Any] = {"handle": "model"}
    with steps.step(LOAD):
        worker.request(
            "load_language_model",
            time_limit_s=limit_s,
            path=str(trial.runnable.path),
            runtime=trial.runnable.runtime,
            context_tokens=plan.context_tokens,
            **handle,
        )
    block: Mapping[str, Any] = {"ids": plan.ids, "block": 0, **handle}
    call_s = 0.0
    with steps.step(INFERENCE):
        for phase in _PHASES:
            tokens = plan.tokens_of(phase)
            worker.request("bind_phase", time_limit_s=limit_s, phase=phase, tokens=tokens, **block)
            timed = worker.request("time_calls", time_limit_s=limit_s, calls=FIRST_CALLS, **handle)
            call_s = max(call_s, min(timed["wall_ns"]) / 1e9)
        count = _allowed(trial, call_s, plan.blocks, share=0.75)
        for index in range(count):
            progress(f"scoring {count} blocks without network", index / count)
            worker.request(
                "score",
                time_limit_s=limit_s,
                exchange=str(folder / "exchange"),
                role="alone",
                **{**block, "block": index},
            )
        prompt = _prompt(plan)
        if prompt:
            worker.request(
                "generate", time_limit_s=limit_s, tokens=prompt, count=GENERATED_TOKENS, **handle
            )
        worker.request("language_execution", time_limit_s=limit_s, **handle)
        # Generating forgets what was bound.
        tokens = plan.tokens_of("decode")
        worker.request("bind_phase", time_limit_s=limit_s, phase="decode", tokens=tokens, **block)
    return count, FIRST_CALLS * len(_PHASES)


def _prompt(plan: LanguagePlan) -> list[int]:
    """Return the first tokens of the text, where there is room for an answer."""
    import numpy as np

    tokens = min(PROMPT_TOKENS, plan.context_tokens - GENERATED_TOKENS)
    if tokens < 1:
        return []
    ids = np.load(plan.ids, mmap_mode="r", allow_pickle=False)
    return [int(token) for token in ids[0, :tokens]]


def _allowed(trial: Trial, each_s: float, wanted: int, *, share: float) -> int:
    """Return how many of ``wanted`` a share of the budget allows, at least one."""
    if trial.budget_s is None or each_s <= 0:
        return wanted
    return max(1, min(wanted, int(share * trial.budget_s / each_s)))
