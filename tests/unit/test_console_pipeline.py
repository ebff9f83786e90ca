"""``pytest-edgeai pipeline``, called as its script calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.console import main
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)

pytest.importorskip("yaml", reason='needs: pip install "pytest-edgeai[pipelines]"')
BRIEF = """
edge_ai_pipeline:
  stages: [model_validation, optimization, testing, staging_deployment, production_deployment,
           monitoring]
  model_validation: {accuracy_threshold: 0.97, performance_baseline: required,
                     security_scan: enabled}
  optimization:
    frameworks: [llama_cpp, openvino, microsoft_olive]
    validation: {cross_validation: enabled, performance_comparison: required}
  testing: {unit_tests: true, integration_tests: true, load_tests: true, security_tests: true}
  deployment: {strategy: blue_green, traffic_ramping: gradual, rollback: automatic,
               monitoring: real_time}
"""


@pytest.fixture(name="here")
def here_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yml").write_text(BRIEF)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "digits.onnx").write_bytes(b"")
    (tmp_path / "test.npz").write_bytes(b"")
    return tmp_path


def convert(*words: str) -> int:
    return main(["pipeline", "convert", "pipeline.yml", *words])


MODEL = ("--model=models/digits.onnx", "--task=image-classification", "--data=test.npz")


def test_the_manifest_is_one_that_a_run_takes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "deep").mkdir()
    assert convert("--output=deep/edgeai.toml", *MODEL) == 0
    manifest = read_manifest(here / "deep" / "edgeai.toml", CATALOGUE)
    (model,) = manifest.models
    assert (model.name, model.path.resolve()) == ("digits", here / "models" / "digits.onnx")
    assert manifest.gates["accuracy_retained"] == 0.97
    assert manifest.production is not None
    assert "rollout" in (manifest.production.required or ())
    assert "framework" in manifest.settings
    out = capsys.readouterr().out
    assert "Without a counterpart:" in out
    assert "testing.unit_tests: " in out


def test_nothing_is_overwritten_unasked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert() == 0
    assert "names no model yet" in capsys.readouterr().out
    (here / "edgeai.toml").write_text("mine")
    assert convert() == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing is overwritten; allowed: with --force" in err
    assert (here / "edgeai.toml").read_text() == "mine"
    assert convert("--force") == 0
    assert "accuracy_retained = 0.97" in (here / "edgeai.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model=models/digits.onnx",), "--task, --data is missing"),
        (("--name=a",), "--model, --task, --data is missing"),
        ((*MODEL, "--model=missing.onnx"), "--model missing.onnx: does not exist"),
        ((*MODEL, "--task=image-clasification"), 'Did you mean "image-classification"?'),
        ((*MODEL, "--data=missing.npz"), "--data missing.npz: does not exist"),
        ((*MODEL, "--calibration=a:1"), "--calibration a:1: does not exist"),
        ((*MODEL, "--name=a b"), '"a b" cannot name a model'),
        (("--output=models",), "exists"),
        (("--output=models", "--force"), "is a directory"),
    ],
)
def test_a_wrong_option_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert convert(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not (here / "edgeai.toml").exists()


def test_data_may_be_a_function(here: Path) -> None:
    assert convert(*MODEL[:2], "--data=package.module:load") == 0
    assert 'data = "package.module:load"' in (here / "edgeai.toml").read_text()


def test_the_pipeline_file_itself_is_never_overwritten(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "link.toml").symlink_to("pipeline.yml")
    for output in ("pipeline.yml", "./pipeline.yml", "link.toml"):
        assert convert("--force", f"--output={output}", *MODEL) == 2
        assert "is the pipeline file itself" in capsys.readouterr().err
    assert (here / "pipeline.yml").read_text() == BRIEF


def test_no_directory_is_made_for_the_manifest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("--output=nowhere/deep/x.toml", *MODEL) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "there is no directory nowhere/deep" in err
    assert not (here / "nowhere").exists()


def test_stages_in_another_order_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = BRIEF.replace("[model_validation, optimization,", "[optimization, model_validation,")
    (here / "pipeline.yml").write_text(text)
    assert convert(*MODEL) == 0
    assert "in another order: they are done as model_validation, optim" in capsys.readouterr().out
    (here / "pipeline.yml").write_text(BRIEF)
    assert convert("--force", *MODEL) == 0
    assert "in another order" not in capsys.readouterr().out
