"""The gates ``consistency``, ``framework_agreement`` and ``shadow`` for language models."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import pytest
from edge_runs import Place, Run

CONFIG = llama.llama_config(
    hidden_size=256, intermediate_size=768, num_hidden_layers=2, vocab_size=512
)
LENGTH = 48
ONLY = "(consistency and not latency_consistency) or framework_agreement or shadow"
GATES = '[production]\nrequired = ["consistency", "framework_agreement", "shadow"]\n'

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama_cpp is not installed; run: pip install 'pytest-edgeai[cross]'",
)


def tokens(blocks: int, seed: int) -> Any:
    rows = range(seed, seed + blocks)
    return np.stack([llama.random_tokens(CONFIG, LENGTH, seed=row) for row in rows])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama.write_huggingface(tmp_path_factory.mktemp("llama") / "chat", CONFIG)


def gated(place: Place, model: Path, limit: float, only: str = ONLY) -> Run:
    """Run the gates with a limit of ``shadow`` on some blocks of traffic."""
    np.savez(place.path / "held-out.npz", input_ids=tokens(12, 0))
    np.savez(place.path / "traffic.npz", input_ids=tokens(20, 100))
    (place.path / "edgeai.toml").write_text(
        f"[models.chat]\npath = {json.dumps(str(model))}\n"
        'task = "text-generation"\ndata = "held-out.npz"\ntraffic = "traffic.npz"\n'
        f"{GATES}[gates]\nshadow = {limit}\n",
        encoding="utf-8",
    )
    return place.run("--edge-framework=llamacpp", "-k", only)


def reason(run: Run, name: str) -> str:
    found: str = next(g["reason"] for g in run.candidate()["gates"] if g["name"] == name)
    return found


def test_a_language_model_is_asked_again_in_text_and_by_another_framework(
    place: Place, model: Path
) -> None:
    run = gated(place, model, 0.2)
    assert run.verdicts()["consistency"] == "pass", run.text
    assert "12 samples across repeats, a reload, thread counts" in reason(run, "consistency")
    assert run.verdicts()["shadow"] == "pass"
    assert "of the tokens of" in reason(run, "shadow")
    agreement = run.verdicts()["framework_agreement"]
    if any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf")):
        assert agreement in ("pass", "inconclusive")
    else:
        assert agreement == "pass"
        assert "llamacpp and openvino predict" in reason(run, "framework_agreement")
    folder = Path(run.report["evidence"]["directory"])
    with np.load(folder / "chat" / "llamacpp-q4_k_m" / "consistency.npz") as arrays:
        names = {name.rpartition(".")[2] for name in arrays.files}
    assert names == {"nll", "likeliest", "generated"}


def test_predictions_that_differ_too_often_fail(place: Place, model: Path) -> None:
    """Random weights lose far more to four bits than trained ones."""
    run = gated(place, model, 0.99, "shadow")
    assert run.verdicts()["shadow"] == "fail", run.text
    assert "a request takes" in reason(run, "shadow")
