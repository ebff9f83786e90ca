"""How long a call of a baseline takes: measured, remembered or estimated, never mixed up."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.assess.roofline import estimate_call_ns
from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.history.records import Row, host_identity
from pytest_edgeai.language_measurements import timed
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.language import LoadedLanguageRunnable, Phase
from pytest_edgeai.measure.tokens import DEFAULT_CONTEXT_TOKENS, DEFAULT_PROMPT_TOKENS
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import ModelFacts, to_json
from pytest_edgeai.remembering import history_of
from pytest_edgeai.report.effort import CallTime
from pytest_edgeai.session import Session
from pytest_edgeai.tasks import GENERATION_TASKS
from pytest_edgeai.timing import TIMINGS

MEASURED_CALLS = 10
MEASURED_NS = 200_000_000
"""After a first call no more are made than fit into this, or :data:`MEASURED_CALLS`."""

PHASES: tuple[Phase, ...] = ("decode", "prefill", "first_token")


@dataclass(frozen=True)
class Remembered:
    """What an earlier session left of a baseline.

    Attributes:
        times: phase to the time of a call; empty where none is known.
        scores: number of its scores on the evaluation data; 0 where they are not known or are not
            right or wrong.
        accuracy: their mean.
    """

    times: Mapping[str, CallTime] = field(default_factory=dict)
    scores: int = 0
    accuracy: float = 0.0


def phases_of(task: str) -> tuple[Phase, ...]:
    """Return what is timed of models of a task."""
    return PHASES if task in GENERATION_TASKS else PHASES[:1]


def remembered(
    session: Session, candidate: PlannedCandidate, *, sha256: str, batch: int | None
) -> Remembered:
    """Return what an earlier session on this host measured; nothing where none did.

    Only times of the same file, host, number of threads, runtime and batch count; they are taken
    from the evidence of the newest such session that is still there.

    Args:
        session: the session.
        candidate: a candidate of the model, whose baseline is asked about.
        sha256: digest of the model's files; empty: they are read, where the history knows the
            model by its name.
        batch: samples per call; ``None`` where the model prescribes them.
    """
    rows = _rows(session, candidate.model.name)
    if rows and not sha256:
        try:
            sha256 = read_model(candidate.model.path, with_hash=True).sha256
        except EdgeAIError:
            return Remembered()
    places = dict.fromkeys(
        (row.evidence, row.recipe_id) for row in reversed(rows) if row.model_sha256 == sha256
    )
    for directory, recipe in places:
        found = _from_evidence(Path(directory), recipe, candidate, batch)
        if found.times:
            return found
    return Remembered()


def _rows(session: Session, model: str) -> list[Row]:
    """Return the rows of a model on this host with this session's threads, oldest first."""
    try:
        rows = history_of(session.cache_directory).read()
    except EdgeAIError:
        # Storing this session will say what is wrong with the file.
        return []
    here = host_identity(to_json(session.host))
    return [
        row
        for row in rows
        if row.model == model
        and row.environment.threads == session.settings.threads
        and row.environment.host == here
    ]


def _from_evidence(
    directory: Path, recipe: str, candidate: PlannedCandidate, batch: int | None
) -> Remembered:
    evidence = EvidenceStore(directory)
    place = f"{candidate.model.name}/{recipe}"
    try:
        stages = (evidence.read_record(f"{place}/stages") or {}).get("stages", ())
        baseline = next((stage for stage in stages if stage["name"] == "baseline"), None)
        if baseline is None or baseline["framework"] != candidate.baseline_framework:
            return Remembered()
        if batch is not None and baseline["latency"]["batch"] != batch:
            return Remembered()
        times: dict[str, CallTime] = {}
        for phase in phases_of(candidate.model.task):
            arrays = evidence.read_arrays(f"{place}/{TIMINGS[phase]}")
            if arrays is not None and len(arrays["baseline_wall_ns"]):
                ns = float(np.median(arrays["baseline_wall_ns"]))
                times[phase] = CallTime(phase, ns, "history")
        quality = evidence.read_arrays(f"{place}/quality")
        kind = (evidence.read_record(f"{place}/quality") or {}).get("kind")
        if quality is None or kind != "proportion":
            return Remembered(times)
        scores = quality["baseline_scores"]
        return Remembered(times, len(scores), float(scores.mean()))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        # Evidence is swept and may be damaged; what it said is only a help.
        return Remembered()


def measured(loaded: LoadedRunnable, phases: Iterable[Phase]) -> dict[str, CallTime]:
    """Time a handful of calls of a loaded baseline, by phase.

    Raises:
        EdgeAIError: the model could not be run.
    """
    times: dict[str, CallTime] = {}
    for phase in phases:
        if phase != "decode" and not isinstance(loaded, LoadedLanguageRunnable):
            continue
        model = timed(loaded, phase)
        first_ns = float(model.time_calls(1).wall_ns[0])
        calls = min(MEASURED_CALLS, int(MEASURED_NS / max(first_ns, 1.0)))
        ns = float(np.median(model.time_calls(calls).wall_ns)) if calls else first_ns
        times[phase] = CallTime(phase, ns, "measured")
    return times


def prescribes_batch(facts: ModelFacts) -> bool:
    """Return whether the first axis of an input is fixed; the work of a call then counts it."""
    return any(spec.has_shape and bool(spec.shape and spec.shape[0]) for spec in facts.inputs)


def estimated(
    session: Session, candidate: PlannedCandidate, facts: ModelFacts, *, batch: int | None
) -> dict[str, CallTime]:
    """Return a guess from the model's work and the host's features, by phase.

    Reading text costs the arithmetic of every token, and its weights move once.

    Args:
        session: the session.
        candidate: a candidate of the model.
        facts: what the model's file says.
        batch: samples per call; ``None`` where the model prescribes them.
    """
    spec = candidate.model
    longest = facts.language.context_length if facts.language else None
    context = spec.context_length or min(DEFAULT_CONTEXT_TOKENS, longest or DEFAULT_CONTEXT_TOKENS)
    prompt = spec.prompt_tokens or min(DEFAULT_PROMPT_TOKENS, context // 2)
    tokens: Mapping[Phase, int] = {
        "decode": 1 if prescribes_batch(facts) else batch or 1,
        "prefill": context,
        "first_token": prompt,
    }
    found: dict[str, CallTime] = {}
    for phase in phases_of(spec.task):
        flops, moved = facts.flops_per_inference, facts.bytes_per_inference
        ns = estimate_call_ns(
            None if flops is None else flops * tokens[phase],
            moved,
            sum(facts.operators.values()),
            session.host,
            threads=session.settings.threads,
        )
        if ns is not None:
            found[phase] = CallTime(phase, ns, "estimate")
    return found
