"""Look into the calls of loaded models: what they cost the process, and what operators take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.bench import START_LIMIT_S, LoadedRunnable, Samples
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.profile_records import OperatorTime, Profile
from pytest_edgeai.worker.host import Worker, WorkerSpec

PARTS = 3
"""Parts of the plain calls of each side; the sides take turns, so that a change meets both."""

PART_S = 0.25
FEWEST_CALLS, MOST_CALLS = 3, 200
MOST_PROFILED_CALLS = 50
"""A profiler writes every operator of every call."""

OPERATOR_S = 0.4
CORES_S = 0.25
OPERATOR_BYTES = "operator_bytes"

_MULTIPLIES = re.compile(r"conv|gemm|matmul|mul_mat|fullyconnected|attention|lstm|gru|rnn", re.I)
_INTEGERS = ("int8", "uint8")
_USAGE = ("minor_faults", "major_faults", "voluntary_switches", "involuntary_switches")


@dataclass(frozen=True)
class Work:
    """What one call of a model has to do, as its file says.

    Attributes:
        flops: floating-point operations; ``None``: not known.
        moved_bytes: bytes of weights and activations; ``None``: not known.
        note: what the figures are, or why they are not known.
    """

    flops: float | None
    moved_bytes: float | None
    note: str


@dataclass
class PlainCalls:
    """Calls without a profiler, and what they cost the process."""

    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    usage: dict[str, float] = field(default_factory=dict)
    waited_ns: int | None = 0
    ticks: dict[str, int] | None = field(default_factory=dict)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Add what the worker's operation ``profile_calls`` answered."""
        self.wall_ns += answer["wall_ns"]
        self.cpu_ns += answer["cpu_ns"]
        self.seconds += answer["seconds"]
        self.cpu_seconds += answer["cpu_seconds"]
        for name, count in answer["usage"].items():
            self.usage[name] = self.usage.get(name, 0) + count
        waited, host = answer["waited_ns"], answer["host"]
        self.waited_ns = None if None in (self.waited_ns, waited) else self.waited_ns + waited
        if host is None or self.ticks is None:
            self.ticks = None
        else:
            self.ticks = {name: self.ticks.get(name, 0) + count for name, count in host.items()}


def plain_calls(
    models: Sequence[LoadedRunnable], progress: Callable[[float], None]
) -> list[PlainCalls]:
    """Run each model's bound call again and again, the models in turns, and state what it cost."""
    found = [PlainCalls() for _ in models]
    counts = []
    for model in models:
        model.run_on(None)
        times = model.time_calls(FEWEST_CALLS).wall_ns
        counts.append(calls_within(PART_S, float(np.min(times))))
    for part in range(PARTS):
        for index, (model, calls) in enumerate(zip(models, counts, strict=True)):
            found[index].add(model.profile_calls(calls))
            progress((part * len(models) + index + 1) / (PARTS * len(models)))
    return found


def calls_within(seconds: float, call_ns: float) -> int:
    """Return how many calls of a length fill some seconds, within reason."""
    return max(FEWEST_CALLS, min(MOST_CALLS, math.ceil(seconds * 1e9 / max(1.0, call_ns))))


def operator_profile(
    loaded: LoadedRunnable, samples: Samples, plan: LanguagePlan | None, call_ns: float
) -> Mapping[str, Any]:
    """Return what the runtime's profiler says, in a worker and a load of its own.

    Args:
        loaded: the model; it is not touched.
        samples: what a model of tensors is fed.
        plan: how a language model is fed; ``None`` for any other.
        call_ns: wall time of a call, for their number.

    Returns:
        The worker's answer to ``profile_operators`` or ``profile_decoding``.
    """
    runnable = loaded.runnable
    if plan is None:
        operation = "profile_operators"
        fed: dict[str, Any] = {
            "arrays": samples.arrays,
            "first": 0,
            "batch": samples.batching.batch,
        }
    else:
        operation = "profile_decoding"
        fed = {
            "context_tokens": plan.context_tokens,
            "ids": plan.ids,
            "block": 0,
            "tokens": plan.tokens_of("decode"),
        }
    limit_s = loaded.time_limit_s
    spec = WorkerSpec(runnable.framework, runnable.interpreter)
    with Worker.start(spec, time_limit_s=min(START_LIMIT_S, limit_s)) as worker:
        answer: Mapping[str, Any] = worker.request(
            operation,
            time_limit_s=limit_s,
            path=str(runnable.path),
            runtime=runnable.runtime,
            calls=min(MOST_PROFILED_CALLS, calls_within(OPERATOR_S, call_ns)),
            **fed,
        )
    return answer


def make_profile(
    loaded: LoadedRunnable,
    plain: PlainCalls,
    cores: Mapping[str, Any],
    traced: Mapping[str, Any],
    work: Work,
    samples_per_call: int,
) -> Profile:
    """Return one model's profile from what its workers answered.

    Args:
        loaded: the model.
        plain: its calls without a profiler.
        cores: the worker's answer to ``core_use``.
        traced: of :func:`operator_profile`.
        work: what a call has to do.
        samples_per_call: samples that went into a call.
    """
    calls = len(plain.wall_ns)
    operators = tuple(OperatorTime(**each) for each in traced["operators"])
    profiled = float(np.median(traced["wall_ns"])) if traced["wall_ns"] else None
    counters = {name: float(value) for name, value in traced["counters"].items()}
    traced_bytes = counters.pop(OPERATOR_BYTES, None)
    moved, note = work.moved_bytes, work.note
    if moved is None and traced_bytes is not None:
        moved = traced_bytes
        note = f"{note}; bytes: of the operators' inputs, weights and outputs, as traced".lstrip(
            "; "
        )
    ticks = plain.ticks or {}
    total = ticks.get("total", 0)
    core_count = int(cores["cores"])
    capacity_s = core_count * plain.seconds
    valid = loaded.cpu_time_is_valid
    return Profile(
        framework=loaded.runnable.framework.name,
        runtime=loaded.runnable.runtime,
        calls=calls,
        wall_ns=float(np.median(plain.wall_ns)),
        cpu_ns=float(np.median(plain.cpu_ns)) if valid else None,
        profiled_wall_ns=profiled,
        operators=operators,
        operators_source=traced["source"],
        core_shares=_shares(cores),
        **{name: plain.usage[name] / calls if plain.usage else math.nan for name in _USAGE},
        counters=counters,
        flops_per_call=work.flops,
        bytes_per_call=moved,
        workload_note=note,
        operators_executed=operators_of_a_call(operators, len(traced["wall_ns"])),
        operators_note=traced["note"],
        operator_ns=operator_time(traced["operator_ns"], traced["wall_ns"]),
        integer_share=integer_share(operators),
        mean_wall_ns=float(np.mean(plain.wall_ns)),
        mean_cpu_ns=float(np.mean(plain.cpu_ns)) if valid else None,
        waiting_ns=None if plain.waited_ns is None else plain.waited_ns / calls,
        steal_share=ticks["steal"] / total if total else None,
        others_share=(
            min(1.0, max(0.0, ticks["busy"] / total - plain.cpu_seconds / capacity_s))
            if total
            else None
        ),
        core_source=cores["source"],
        moved_share=0.0 if cores["ran_ns"] is None else cores["moved_ns"] / cores["wall_ns"],
        samples_per_call=samples_per_call,
        device_is_cpu=valid and loaded.runnable.runtime.device.upper() == "CPU",
        cores=core_count,
    )


def _shares(cores: Mapping[str, Any]) -> dict[str, float]:
    if cores["ran_ns"] is None:
        return {}
    return {core: ran / cores["wall_ns"] for core, ran in cores["ran_ns"].items()}


def operator_time(operator_ns: Sequence[int], wall_ns: Sequence[int]) -> float | None:
    """Return the median time in operators of a call; ``None`` without a profiler.

    A profiler that keeps one mean over all calls gives the mean, and with it whatever disturbed
    single calls: it is scaled by what that did to the wall times of the same calls.
    """
    if not operator_ns:
        return None
    if len(operator_ns) > 1 or len(wall_ns) == 1:
        return float(np.median(operator_ns))
    return float(operator_ns[0]) * float(np.median(wall_ns)) / max(1.0, float(np.mean(wall_ns)))


def operators_of_a_call(operators: Sequence[OperatorTime], calls: int) -> int:
    """Return how many operators a call executes."""
    return round(sum(each.calls for each in operators) / calls) if calls else 0


def multiplies(operator: str) -> bool:
    """Return whether an operator, as its runtime calls it, multiplies and accumulates."""
    return _MULTIPLIES.search(operator) is not None


def integer_share(operators: Sequence[OperatorTime]) -> float | None:
    """Return which share of the time in multiplying operators is spent on 8-bit integers.

    ``None`` where no operator multiplies, or the runtime does not say what they compute in.
    """
    told = [each for each in operators if multiplies(each.operator) and each.precision]
    total = sum(each.time_ns for each in told)
    if not total:
        return None
    return sum(each.time_ns for each in told if each.precision in _INTEGERS) / total


def kv_bytes(loaded: LoadedRunnable) -> float | None:
    """Return the bytes of keys and values that decoding a token reads; ``None`` if not known."""
    if not isinstance(loaded, LoadedLanguageRunnable) or loaded.kv_cache_bytes is None:
        return None
    plan = loaded.plan
    return loaded.kv_cache_bytes * plan.prompt_tokens / plan.context_tokens


def arrays_of(plain: PlainCalls) -> dict[str, NDArray[np.int64]]:
    """Return the times of single calls, for the evidence."""
    return {
        "wall_ns": np.asarray(plain.wall_ns, dtype=np.int64),
        "cpu_ns": np.asarray(plain.cpu_ns, dtype=np.int64),
    }
