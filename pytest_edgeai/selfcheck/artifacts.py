"""Planted artifacts: false claims of precision, and files that are not what they were.

Real files, written on the spot and read by what reads real candidates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.judge.artifact import judge_precision
from pytest_edgeai.measure.onnx_writer import write_model
from pytest_edgeai.optimize.cache import ArtifactCache
from pytest_edgeai.promote.bundle import promote
from pytest_edgeai.records import Artifact, Outcome, PrecisionFacts, Recipe, Verdict
from pytest_edgeai.report.content import CandidateReport, ModelReport
from pytest_edgeai.selfcheck.rates import Answer, Truth

_FEATURES, _CLASSES = 64, 32
_KEY = "5e1f" * 16
_RECIPE = Recipe("planted", "int8-static")
_RIGHT, _WRONG = b"the right weights", b"the wrong weights"


def check_precision(folder: Path) -> tuple[Answer, ...]:
    """Ask ``precision_proof`` about two float32 models that claim INT8, and about a real one."""
    weights = np.random.default_rng(0).standard_normal((_FEATURES, _CLASSES)).astype(np.float32)
    int8 = np.clip(np.round(weights * 32), -127, 127).astype(np.int8)
    scale, zero = np.array(1 / 32, np.float32), np.array(0, np.int8)
    by_name = ("MatMul", ("x", "w"), "y")
    fake = (
        ("QuantizeLinear", ("w", "scale", "zero"), "w_q"),
        ("DequantizeLinear", ("w_q", "scale", "zero"), "w_d"),
        ("MatMul", ("x", "w_d"), "y"),
    )
    real = (("DequantizeLinear", ("w", "scale", "zero"), "w_d"), ("MatMul", ("x", "w_d"), "y"))
    constants: dict[str, NDArray[Any]] = {"scale": scale, "zero": zero}
    planted: tuple[tuple[str, Truth, Any, dict[str, NDArray[Any]]], ...] = (
        ("model-int8", "missed", (by_name,), {"w": weights}),
        ("model-fake-int8", "missed", fake, {"w": weights, **constants}),
        ("model-real-int8", "met", real, {"w": int8, **constants}),
    )
    answers = []
    for name, truth, nodes, initializers in planted:
        path = write_model(
            folder / f"{name}.onnx", nodes, initializers, features=_FEATURES, classes=_CLASSES
        )
        structure = read_structure(path)
        # What a runtime executes is left open: the weights alone have to give a false claim away.
        facts = PrecisionFacts(
            structure.weight_elements, structure.quantized_operators, {}, "CPU", ("CPU",)
        )
        verdict = judge_precision(facts, "int8")
        answers.append(
            Answer(verdict.gate, f"{name} is int8", truth, verdict.outcome, verdict.reason)
        )
    return tuple(answers)


def check_artifacts(folder: Path) -> tuple[Answer, ...]:
    """Serve a wrong artifact from the cache, and promote one that changed after measuring."""
    return (*_from_cache(folder / "cache"), *_promoted(folder))


def _make(cache: ArtifactCache, content: bytes) -> tuple[Artifact, bool]:
    """Ask the cache; return what it served, and whether it had it made."""
    made = False

    def make(place: Path) -> tuple[Path, tuple[str, ...]]:
        nonlocal made
        made = True
        (place / "model.bin").write_bytes(content)
        return place / "model.bin", ()

    return cache.get_or_make(_KEY, _RECIPE, "int8", {}, make), made


def _from_cache(folder: Path) -> tuple[Answer, ...]:
    cache = ArtifactCache(folder, run_id="self-check", refresh=False)
    artifact, _ = _make(cache, _RIGHT)
    _, made_again = _make(cache, _RIGHT)
    kept: Outcome = "fail" if made_again else "pass"
    artifact.path.write_bytes(_WRONG)
    served, _ = _make(cache, _RIGHT)
    replaced: Outcome = "pass" if served.path.read_bytes() == _WRONG else "fail"
    return (
        Answer("cache", "a whole artifact is served", "met", kept, "it was made again"),
        Answer("cache", "a wrong artifact is served", "missed", replaced, "it was served"),
    )


def _promoted(folder: Path) -> tuple[Answer, ...]:
    artifact, _ = _make(ArtifactCache(folder / "made", run_id="self-check", refresh=False), _RIGHT)
    whole, reason = _promotion(artifact, folder / "whole")
    answers = [Answer("promotion", "a whole artifact is promoted", "met", whole, reason)]
    artifact.path.write_bytes(_WRONG)
    changed, reason = _promotion(artifact, folder / "changed")
    answers.append(Answer("promotion", "a changed one is promoted", "missed", changed, reason))
    return tuple(answers)


def _promotion(artifact: Artifact, directory: Path) -> tuple[Outcome, str]:
    passed = Verdict("speedup", "pass", 2.0, None, None, 1.0, "at_least", "ratio", 1, "planted")
    candidate = CandidateReport(
        id=_RECIPE.id,
        target="cross",
        recipe=_RECIPE,
        artifact=artifact,
        stages=(),
        verdicts=(passed,),
        required_gates=(passed.gate,),
        promoted=True,
        promotion_blocked_by=(),
    )
    model = ModelReport(
        name="planted",
        sha256="",
        task="image-classification",
        baseline_framework="planted",
        baseline_path=artifact.path,
        baseline_stage=None,
        candidates=(candidate,),
    )
    try:
        promote(candidate, model, {"report.json": "{}"}, directory)
    except EdgeAIError as error:
        return "fail", str(error)
    return "pass", "it was promoted"
