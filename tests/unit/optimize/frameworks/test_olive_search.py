"""What Olive's search is told, and how its trials are judged; Olive itself is not imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='run: pip install "pytest-edgeai[onnx]"')
pytest.importorskip("onnxruntime", reason='run: pip install "pytest-edgeai[onnx]"')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pytest_edgeai.errors import ModelError  # noqa: E402
from pytest_edgeai.optimize.frameworks.olive_search import (  # noqa: E402
    SearchSettings,
    _configuration,
    _Judge,
    _split,
)
from pytest_edgeai.optimize.frameworks.support import Options, Report  # noqa: E402
from pytest_edgeai.records import Recipe  # noqa: E402

METHODS = {"minmax": "MinMax", "entropy": "Entropy"}


def settings(**options: Any) -> SearchSettings:
    read = Options(Recipe("olive", "int8-search", options))
    found = SearchSettings.read(read, ("int8", "uint8"), tuple(METHODS))
    read.finish()
    return found


def test_the_space_holds_every_setting_unless_the_recipe_says_less() -> None:
    assert settings().space(METHODS) == {
        "per_channel": [True, False],
        "precision": ["int8", "uint8"],
        "calibrate_method": ["MinMax", "Entropy"],
    }
    less = settings(weight_types=["uint8"], calibrate_methods=["entropy", "entropy"])
    assert less.space(METHODS)["precision"] == ["uint8"]
    assert less.space(METHODS)["calibrate_method"] == ["Entropy"]


@pytest.mark.parametrize(
    "options",
    [
        {"weight_types": []},
        {"weight_types": ["int4"]},
        {"calibrate_methods": ["best"]},
        {"trials": 0},
        {"objective": "speed"},
        {"least_fidelity": 1.5},
        {"sampler": "grid"},
    ],
)
def test_values_that_are_not_allowed(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f'option "{next(iter(options))}"') as refused:
        settings(**options)
    assert refused.value.allowed


def test_the_search_ends_after_its_trials() -> None:
    """Olive goes on until there were more than ``max_iter`` trials."""
    assert _configuration(settings(trials=4))["search_strategy"]["max_iter"] == 3
    assert _configuration(settings(trials=1))["search_strategy"]["max_iter"] == 0


@pytest.mark.parametrize("objective", ["fidelity", "latency"])
def test_one_objective_comes_first(objective: str) -> None:
    configuration = _configuration(settings(objective=objective, least_fidelity=0.75))
    metrics = configuration["evaluators"]["judge"]["metrics"]
    ranks = {metric["name"]: metric["sub_types"][0]["priority"] for metric in metrics}
    goals = {metric["name"]: metric["sub_types"][0].get("goal") for metric in metrics}
    assert ranks[objective] == 1
    assert sorted(ranks.values()) == [-1, -1, 1, 2]
    assert ranks["agreement"] == ranks["error"] == -1
    wanted = {"type": "max-degradation", "value": 0.25} if objective == "latency" else None
    assert goals == {"fidelity": wanted, "error": None, "agreement": None, "latency": None}
    better = {metric["name"]: metric["sub_types"][0]["higher_is_better"] for metric in metrics}
    assert better == {"fidelity": True, "error": False, "agreement": True, "latency": False}


class Feeds:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        return iter([{"x": np.full(1, number)} for number in range(self.count)])


@pytest.mark.parametrize(
    ("count", "fitted", "judged"),
    [(1, 1, 1), (3, 3, 3), (4, 3, 1), (11, 9, 2), (1000, 936, 64)],
)
def test_trials_are_judged_on_calls_that_their_ranges_do_not_know(
    count: int, fitted: int, judged: int
) -> None:
    report = Report(())
    ranging, scoring = _split(Feeds(count), report)
    assert (len(ranging), len(scoring)) == (fitted, judged)
    first = [int(feed["x"][0]) for feed in ranging]
    second = [int(feed["x"][0]) for feed in scoring]
    assert (len(first), len(second)) == (fitted, judged)
    if count >= 4:
        assert not set(first) & set(second)
        assert sorted(first + second) == list(range(count))
    else:
        assert "too few" in report.lines[0]


def scaling(folder: Path, name: str, factor: float) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / name)
    return folder / name


class Images:
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        rng = np.random.default_rng(1)
        return iter([{"x": rng.normal(size=(2, 3)).astype(np.float32)} for _ in range(3)])


@pytest.mark.parametrize(
    ("factor", "fidelity", "agreement"), [(1.0, 1.0, 1.0), (0.9, 0.9, 1.0), (-1.0, -1.0, 0.0)]
)
def test_fidelity_and_agreement(
    tmp_path: Path, factor: float, fidelity: float, agreement: float
) -> None:
    judge = _Judge(scaling(tmp_path, "float.onnx", 1.0), Images())
    found = judge.score(scaling(tmp_path, "trial.onnx", factor))
    assert found["fidelity"] == pytest.approx(fidelity, abs=1e-6)
    assert found["error"] == pytest.approx(1 - fidelity, abs=1e-6)
    assert found["agreement"] == agreement
    assert found["latency"] > 0


def test_a_model_that_computes_no_number_comes_last(tmp_path: Path) -> None:
    judge = _Judge(scaling(tmp_path, "float.onnx", 1.0), Images())
    found = judge.score(scaling(tmp_path, "trial.onnx", float("nan")))
    assert -np.inf < found["fidelity"] < -1e30
    assert 1e30 < found["error"] < np.inf
