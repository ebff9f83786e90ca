"""Which workers a session starts: each side of a candidate once, not once per gate."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import pytest
from edge_runs import Place

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec(module) is None,
        reason=f"{module} is not installed; run: pip install 'pytest-edgeai[{extra}]'",
    )
    for module, extra in (("openvino", "intel"), ("llama_cpp", "cross"), ("mlx_lm", "apple"))
]

COUNTING = '''
"""Write a line for every worker that is started, and for what it is asked to do first of all."""

import json
import os
from pathlib import Path

from pytest_edgeai.worker import host

LINES = Path(os.environ["WORKER_STARTS"])


def write(**facts):
    with LINES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\\n")


def launch(spec, original=host.launch):
    launched = original(spec)
    write(pid=launched.process.pid, framework=spec.framework.name)
    return launched


def request(self, operation, /, *, original=host.Worker.request, **arguments):
    runtime = arguments.get("runtime")
    write(
        pid=self.pid,
        operation=operation,
        path=str(arguments.get("path", arguments.get("source", ""))),
        threads=runtime.threads if runtime else None,
        hints=dict(runtime.hints) if runtime else {},
    )
    return original(self, operation, **arguments)


host.launch = launch
host.Worker.request = request
'''
LINEAR = """
[models.linear]
path = "linear.onnx"
task = "tabular-classification"
data = "linear-test.npz"
calibration = "linear-calibration.npz"
"""
CHAT = """
[models.chat]
path = "chat"
task = "text-generation"
data = "held-out.npz"
"""
QUICK = """
[gates]
speedup = 0.01
prefill = 0.01
time_to_first_token = 0.01
latency_consistency = 1000
latency_tail = 1
latency_drift = 1000
memory_growth = "1 GiB"
memory_cut = false
"""
MEMORY_GATED = """
[gates]
memory_cut = 0.01
"""
LOADS = ("load", "load_language_model")
MEMORY = ("measure_memory", "measure_language_memory")


@dataclass(frozen=True)
class Start:
    """A worker: its framework, and what it was started for.

    Attributes:
        framework: name of the framework.
        purpose: its first operation; ``probe`` where it was asked for nothing more.
        path: the model that the operation is about.
        threads: with how many threads the model is run.
        mapped: whether weights were mapped.
        operations: everything that it was asked for.
    """

    framework: str
    purpose: str
    path: Path
    threads: int | None
    mapped: bool
    operations: tuple[str, ...]


def read_starts(lines: Path) -> list[Start]:
    facts = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    workers: list[tuple[str, list[dict[str, Any]]]] = []
    running: dict[int, list[dict[str, Any]]] = {}
    for fact in facts:
        if "framework" in fact:
            # A process id may come again.
            running[fact["pid"]] = []
            workers.append((fact["framework"], running[fact["pid"]]))
        else:
            running[fact["pid"]].append(fact)
    starts = []
    for framework, asked in workers:
        nothing: dict[str, Any] = {"operation": "probe", "path": "", "threads": None}
        first = asked[0] if asked else nothing
        starts.append(
            Start(
                framework,
                first["operation"],
                Path(first["path"]),
                first["threads"],
                "memory_mapping" in first.get("hints", {}),
                tuple(fact["operation"] for fact in asked),
            )
        )
    return starts


def gate(
    place: Place, monkeypatch: pytest.MonkeyPatch, manifest: str, *frameworks: str, gates: str = ""
) -> list[Start]:
    """Gate the models of ``manifest`` in one session; return the workers that it started."""
    (place.path / "edgeai.toml").write_text(manifest, encoding="utf-8")
    place.pytester.makepyfile(counting_workers=COUNTING)
    lines = place.path / "starts.jsonl"
    monkeypatch.setenv("WORKER_STARTS", str(lines))
    chosen = [f"--edge-framework={name}" for name in frameworks] + ["--edge-budget=5"]
    if gates:
        chosen += ["-k", gates]
    run = place.run("-p", "counting_workers", *chosen, own_cache=True)
    assert run.code in (0, 1), run.text
    assert "could not be measured" not in run.text
    return read_starts(lines)


def loads(starts: list[Start]) -> Counter[tuple[str, Path, int | None]]:
    return Counter((s.framework, s.path, s.threads) for s in starts if s.purpose in LOADS)


def chat(place: Place) -> None:
    config = llama.llama_config(hidden_size=256, intermediate_size=768, vocab_size=512)
    llama.write_huggingface(place.path / "chat", config)
    ids = np.stack([llama.random_tokens(config, 32, seed=seed) for seed in range(8)])
    np.savez(place.path / "held-out.npz", input_ids=ids)


def test_each_side_of_a_candidate_is_started_once_and_not_once_per_gate(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven and nine gates each; the stages of the report load two more, as they are no side."""
    place.write()
    chat(place)
    frameworks = ("onnxruntime", "openvino", "llamacpp")
    # OpenVINO runs language models, too; one framework of them is enough here.
    starts = gate(
        place, monkeypatch, LINEAR + CHAT + QUICK, *frameworks, gates="linear or llamacpp"
    )
    operations = {
        operation for start in starts if start.purpose in LOADS for operation in start.operations
    }
    assert {"evaluate", "score", "time_calls", "execution", "language_execution"} <= operations
    assert not [start for start in starts if start.purpose in MEMORY if start.mapped]

    found = loads(starts)
    baseline = ("onnxruntime", place.path / "linear.onnx", 1)
    assert found[baseline] == 1, "the baseline is shared by the candidates of both frameworks"
    made = Counter((s.framework, s.path.name) for s in starts if s.purpose == "optimize")
    assert made == {
        ("onnxruntime", "linear.onnx"): 2,  # the candidate, and the conversion of the stages
        ("openvino", "linear.onnx"): 2,
        ("llamacpp", "chat"): 2,
    }
    # In each framework: candidate and conversion with one thread, the candidate with all of them.
    # The conversion of a language model is its baseline, too, and is loaded once for both.
    for framework, baselines in (("onnxruntime", 1), ("openvino", 0), ("llamacpp", 0)):
        own = {key: count for key, count in found.items() if key[0] == framework}
        single = [count for key, count in own.items() if key[2] == 1]
        assert single == [1] * (2 + baselines), (framework, own)
        assert [count for key, count in own.items() if key[2] == 0] == [1], (framework, own)


@pytest.mark.parametrize("framework", ["llamacpp", "mlx"])
def test_a_language_model_needs_one_worker_a_side_for_all_gates_but_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    chat(place)
    gates = (
        "accuracy_retained or prefill or time_to_first_token or latency_consistency "
        "or output_sanity or precision_proof"
    )
    starts = gate(place, monkeypatch, CHAT + QUICK, framework, gates=gates)
    found = loads(starts)
    assert len(found) == 2, found
    assert set(found.values()) == {1}, found


def test_memory_takes_three_fresh_processes_a_side_and_one_with_mapped_weights(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat(place)
    starts = gate(place, monkeypatch, CHAT + MEMORY_GATED, "llamacpp", gates="memory_cut")
    measured = Counter((s.path, s.mapped) for s in starts if s.purpose in MEMORY)
    assert sorted(measured.values()) == [1, 1, 3, 3]
    assert {mapped for _, mapped in measured} == {False, True}
    assert all(s.operations == (s.purpose,) for s in starts if s.purpose in MEMORY)
    assert sum(loads(starts).values()) <= 1, "sides are not loaded beside it"
