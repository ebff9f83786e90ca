"""The gate ``shadow``, as a user runs it on recorded traffic."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import planted_answers
import pytest
from edge_runs import Place, Run
from models import require

SHADOW = '[production]\nrequired = ["shadow"]\n'
FAULTS = ("convert", "healthy", "one-in-ten")
ONNX = 'framework = "onnxruntime"\nscheme = "int8-static"\n'
Arrays = dict[str, Any]


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


@pytest.fixture
def recorded(place: Place) -> Arrays:
    """Two thousand requests in the order of their times, most of them unlike the evaluation's."""
    with np.load(place.linear.data) as data:
        features, labels = data["features"], data["labels"]
    generator = np.random.default_rng(7)
    chosen = generator.integers(0, len(features), 2000)
    noise = generator.normal(0, 0.05, (2000, features.shape[1])).astype(np.float32)
    times = np.cumsum(generator.exponential(1.0, 2000)) + 1.7e9
    return {
        "features": features[chosen] + noise,
        "labels": labels[chosen],
        "timestamps": times,
    }


@pytest.fixture
def replayed(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run the gate with recorded arrays and one recipe."""
    shutil.copy(planted_answers.__file__, place.path / "planted_answers.py")
    (place.path / "conftest.py").write_text(planted_answers.HOOK % (FAULTS,), "utf-8")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place.path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)

    def run(arrays: Arrays | None, recipe: str = ONNX, extra: str = "", *arguments: str) -> Run:
        manifest = place.write(SHADOW + extra + f"[[models.linear.recipes]]\n{recipe}")
        if arrays is not None:
            np.savez(place.path / "traffic.npz", **arrays)
            text = manifest.read_text("utf-8")
            table = '[models."linear"]\n'
            assert table in text
            manifest.write_text(text.replace(table, f'{table}traffic = "traffic.npz"\n'), "utf-8")
        framework = "planted" if "planted" in recipe else "onnxruntime"
        return place.run(f"--edge-framework={framework}", "-k", "shadow", *arguments)

    return run


def verdict(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == "shadow")
    return found


def one_line(run: Run) -> str:
    text = " ".join((run.text + run.result.stderr.str()).split())
    assert "Traceback" not in text
    return text


def test_a_healthy_candidate_passes_early_with_all_that_belongs_to_it(
    recorded: Arrays, replayed: Callable[..., Run]
) -> None:
    run = replayed(recorded)
    found = verdict(run)
    assert (run.code, found["outcome"]) == (0, "pass"), run.text
    assert found["samples"] < 2000, "the test did not stop early"
    for words in ("confidence sequence", "of the baseline's quality", "a request takes"):
        assert words in found["reason"]
    assert len(found["details"]["windows"]) == 10, "one part of the traffic is of all times"
    folder = Path(run.report["evidence"]["directory"]) / "linear" / "onnxruntime-int8-static"
    with np.load(folder / "shadow.npz") as arrays:
        assert arrays["agreement"].mean() == found["observed"]
        assert len(set(arrays["request"].tolist())) == found["samples"]


def test_a_candidate_that_disagrees_on_a_tenth_is_found(
    recorded: Arrays, replayed: Callable[..., Run]
) -> None:
    run = replayed(recorded, 'framework = "planted"\nscheme = "one-in-ten"\n')
    found = verdict(run)
    assert (run.code, found["outcome"]) == (1, "fail"), run.text
    assert 0.8 < found["observed"] < 0.95
    assert found["interval"][1] < 0.95


def test_too_little_traffic_says_how_much_more(
    recorded: Arrays, replayed: Callable[..., Run]
) -> None:
    few = {name: array[:30] for name, array in recorded.items()}
    found = verdict(replayed(few))
    assert found["outcome"] == "inconclusive"
    assert "more would decide" in found["reason"]


def test_calibration_samples_are_left_out(
    place: Place, recorded: Arrays, replayed: Callable[..., Run]
) -> None:
    with np.load(place.linear.calibration) as data:
        seen = data["features"][:50]
    arrays = {"features": np.concatenate([seen, recorded["features"]])}
    found = verdict(replayed(arrays))
    assert found["outcome"] == "pass"
    assert "50 requests left out" in found["reason"]
    run = replayed({"features": seen})
    assert "all 50 requests are calibration samples" in one_line(run)
    assert run.code == 4


def test_required_without_traffic_is_not_certified(replayed: Callable[..., Run]) -> None:
    found = verdict(replayed(None))
    assert found["outcome"] == "inconclusive"
    assert "not certified: no recorded traffic" in found["reason"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"feature": a["features"]}, 'array "feature" is no input of the model'),
        (lambda a: {"features": a["features"][:0]}, "has no samples"),
        (lambda a: {"features": a["features"].astype("f8")}, "is float64 and the model takes"),
        (lambda a: {**a, "timestamps": a["timestamps"][:5]}, 'array "timestamps" is float64'),
        (lambda a: {**a, "labels": a["labels"][:5]}, "arrays of different length"),
        (lambda a: {"labels": a["labels"]}, 'no array "features"'),
    ],
)
def test_poor_headers_are_one_line_before_anything_runs(
    recorded: Arrays,
    replayed: Callable[..., Run],
    change: Callable[[Arrays], Arrays],
    words: str,
) -> None:
    run = replayed(change(recorded))
    text = one_line(run)
    assert run.code == 4
    assert words in text
    assert "traffic" in text


def test_times_that_go_back_are_one_line(recorded: Arrays, replayed: Callable[..., Run]) -> None:
    times = recorded["timestamps"].copy()
    times[17] = 0
    run = replayed({**recorded, "timestamps": times})
    text = one_line(run)
    assert run.code == 4
    assert '"timestamps" go back at request 17' in text
