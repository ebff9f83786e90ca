"""Tests of one's own on the optimized model: one example of each fixture and marker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.comparison import EdgeCompare
from pytest_edgeai.optimizer import Optimizer
from pytest_edgeai.records import HostFacts
from pytest_edgeai.runnable import BaselineModel, CandidateModel
from pytest_edgeai.specification import ModelSpec

IMAGES = Path(__file__).parent.parent / "digits" / "test.npz"
DIGITS = "../digits/digits.onnx"  # from the directory of the manifest
CALIBRATION = "../digits/calibration.npz"


def some_images(count: int) -> dict[str, NDArray[Any]]:
    """Return the first evaluation images, as the model's only input wants them."""
    with np.load(IMAGES) as data:
        return {"image": data["image"][:count]}


def test_host(edge_host: HostFacts) -> None:
    """``edge_host``: the machine that measures."""
    if not any("vnni" in feature for feature in edge_host.simd):
        pytest.skip("INT8 gains little on a CPU without VNNI")
    assert edge_host.logical_cores >= 1


def test_model(edge_model: ModelSpec) -> None:
    """``edge_model``: the manifest's entry, once per planned candidate."""
    assert edge_model.task == "image-classification"


def test_baseline(edge_baseline: BaselineModel) -> None:
    """``edge_baseline``: what is deployed today; ``run`` takes and returns arrays by name."""
    (logits,) = edge_baseline.run(some_images(3)).values()
    assert logits.shape == (3, 10)


def test_same_answers(edge_baseline: BaselineModel, edge_candidate: CandidateModel) -> None:
    """``edge_candidate``: the optimized model with the files that it was made into."""
    images = some_images(20)
    (before,) = edge_baseline.run(images).values()
    (after,) = edge_candidate.run(images).values()
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.9
    assert edge_candidate.artifact.size_bytes < 8_000_000


def test_accuracy(edge_compare: EdgeCompare) -> None:
    """``edge_compare``: measure and judge a gate with a limit of one's own."""
    edge_compare("accuracy_retained", more_than=0.97)


@pytest.mark.edge_gate("speedup", at_least=1.2)
@pytest.mark.edge_framework("onnxruntime", "openvino")
@pytest.mark.edge_model("digits")
def test_speed(edge_compare: EdgeCompare) -> None:
    """Markers: which candidates, and the limit; ``verdict`` judges without deciding the test."""
    verdict = edge_compare.verdict("speedup")
    assert verdict.threshold == 1.2
    assert verdict.outcome != "error", verdict.reason


def test_onnxruntime(edge_onnxruntime: Optimizer) -> None:
    """``edge_onnxruntime``: optimize any model; without a scheme, the one that suits it."""
    small = edge_onnxruntime(DIGITS, calibration=CALIBRATION)
    assert small.artifact.claimed_precision == "int8"
    assert small.run(some_images(2))


def test_openvino(edge_openvino: Optimizer) -> None:
    """``edge_openvino``: the same with OpenVINO and NNCF, here a scheme that needs no data."""
    small = edge_openvino(DIGITS, "int8-weights")
    assert small.path.suffix == ".xml"
    assert small.run(some_images(2))
