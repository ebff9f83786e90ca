"""What the manifest may say about corruptions and extreme inputs, and the one line otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue, Manifest

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
MODELS = """
[models.table]
path = "model.onnx"
task = "tabular-classification"
data = "test.npz"

[models.picture]
path = "model.onnx"
task = "object-detection"
data = "test.npz"
"""


def read(directory: Path, text: str) -> Manifest:
    for file in ("model.onnx", "test.npz"):
        (directory / file).write_bytes(b"")
    (directory / "edgeai.toml").write_text(MODELS + text, encoding="utf-8")
    return read_manifest(directory / "edgeai.toml", CATALOGUE)


def test_corruptions_are_named_once_and_absent_by_default(tmp_path: Path) -> None:
    production = read(tmp_path, "[production]\n").production
    assert production is not None
    assert production.corruptions is None
    text = '[production]\ncorruptions = ["jpeg", "feature_noise", "mine:fog", "jpeg"]\n'
    production = read(tmp_path, text).production
    assert production is not None
    assert production.corruptions == ("jpeg", "feature_noise", "mine:fog")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ('["feature_nois"]', 'Did you mean "feature_noise"?'),
        ('["typos"]', 'the corruption "typos" does not fit object-detection, tabular-classific'),
        ('["shift"]', "allowed: gaussian_noise, gaussian_blur, brightness, jpeg, feature_noise"),
        ('["mine:fog", "gain"]', 'the corruption "gain" does not fit'),
        ('"jpeg"', "a list"),
        ("[]", "a list"),
        ("[1]", "a list"),
    ],
)
def test_names_that_nothing_has_or_that_fit_no_model(
    tmp_path: Path, names: str, words: str
) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, f"[production]\ncorruptions = {names}\n")
    assert "edgeai.toml [production] corruptions" in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("robustness_severity = 0", "a whole number"),
        ("robustness_severity = 6", "number above 0 and below 6"),
        ("robustness_severity = 1.5", "a whole number"),
        ("robustness_channel_axis = 0", "a whole number"),
        ("robustness_lowest_value = nan", "number above -inf"),
        ('robustness_highest_value = "white"', "a number"),
        ("robustness = 1.5", "robustness"),
        ("extreme_inputs = 3", "extreme_inputs"),
        ("extreme_inputs_time_limit_s = 0", "number above 0"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, f"[gates]\n{setting}\n")
    assert "edgeai.toml [gates]" in str(raised.value)
    assert words in str(raised.value)


def test_settings_within_range(tmp_path: Path) -> None:
    text = "[gates]\nrobustness_severity = 5\nrobustness_channel_axis = 3\n"
    text += "robustness_lowest_value = -2.1\nrobustness_highest_value = 0\n"
    gates = read(tmp_path, text).gates
    assert (gates["robustness_severity"], gates["robustness_lowest_value"]) == (5, -2.1)
