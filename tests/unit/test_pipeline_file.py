from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.pipeline_file import read_pipeline

pytest.importorskip("yaml", reason='needs: pip install "pytest-edgeai[pipelines]"')


def read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipeline.yml"
    path.write_text(text, encoding="utf-8")
    read_pipeline(path)


def test_what_a_file_says_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yml"
    path.write_text(
        "edge_ai_pipeline:\n"
        "  stages: [testing, monitoring]\n"
        "  model_validation: {accuracy_threshold: 1, security_scan: disabled}\n"
        "  optimization: {frameworks: [openvino], validation: {cross_validation: on}}\n"
        "  deployment: {strategy: Blue-Green}\n"
    )
    found = read_pipeline(path)
    assert found.stages == ("testing", "monitoring")
    assert found.accuracy == 1.0
    assert found.frameworks == ("openvino",)
    assert found.switches == {
        "model_validation.security_scan": False,
        "optimization.validation.cross_validation": True,
    }
    assert found.words == {"deployment.strategy": "blue_green"}


@pytest.mark.parametrize(
    "text",
    [
        "testing: {unit_tests, load_tests, security_tests: off}",
        "testing: {unit_tests: , load_tests: , security_tests: disabled}",
    ],
)
def test_a_switch_without_a_value_is_on(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipeline.yml"
    path.write_text(f"edge_ai_pipeline: {{{text}}}")
    assert read_pipeline(path).switches == {
        "testing.unit_tests": True,
        "testing.load_tests": True,
        "testing.security_tests": False,
    }


def test_switches_may_stand_in_a_list(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yml"
    path.write_text("edge_ai_pipeline:\n  testing:\n    - unit_tests\n    - load_tests\n")
    assert read_pipeline(path).switches == {"testing.unit_tests": True, "testing.load_tests": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("edge_ai_pipeline:\n\tx: 1", r"pipeline\.yml, line 2: not valid YAML"),
        ("edge_ai_pipeline: {}\nedge_ai_pipeline: {}", "stands there twice"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("", "nothing where a table is needed"),
        ("- a", "a list where a table is needed"),
        ("{}", '"edge_ai_pipeline" is missing'),
        ("edge_ai_pipelin: {}", 'unknown key "edge_ai_pipelin".*Did you mean "edge_ai_pipeline"'),
        ("edge_ai_pipeline: 3", "edge_ai_pipeline: a number where a table is needed"),
        ("edge_ai_pipeline: {stage: []}", 'unknown key "stage".*Did you mean "stages"'),
        ("edge_ai_pipeline: {1: 2}", 'unknown key "1"'),
        ("edge_ai_pipeline: {testing: {unit_test: true}}", 'testing: unknown key "unit_test"'),
        ("edge_ai_pipeline: {testing: [a]}", 'testing: unknown key "a"'),
        ("edge_ai_pipeline: {testing: [1]}", "testing: a list where a table is needed"),
        (
            "edge_ai_pipeline: {testing: [load_tests, load_tests]}",
            '"load_tests" stands there twice',
        ),
        ("edge_ai_pipeline: {}\n---\nedge_ai_pipeline: {}", "line 2: .*a second document begins"),
        ("edge_ai_pipeline: {testing: {load_tests: maybe}}", 'a word "maybe" cannot be used'),
        ("edge_ai_pipeline: {testing: {load_tests: [1]}}", "a list cannot be used"),
        ("edge_ai_pipeline: {stages: testing}", "stages: a word"),
        ("edge_ai_pipeline: {stages: [tests]}", 'unknown stage "tests"'),
        ("edge_ai_pipeline: {stages: []}", "a list cannot be used"),
        ("edge_ai_pipeline: {optimization: {frameworks: [1]}}", "a list cannot be used"),
        ("edge_ai_pipeline: {deployment: {strategy: 3}}", "a number"),
        *(
            (f"edge_ai_pipeline: {{model_validation: {{accuracy_threshold: {value}}}}}", "above 0")
            for value in ("95", "0", "-1", ".nan", ".inf", "true", "'0.95'", "null", "{}")
        ),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "pipeline.yml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_pipeline(tmp_path / "missing.yml")
    with pytest.raises(UserError, match="cannot be read"):
        read_pipeline(tmp_path)
    (tmp_path / "binary.yml").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not valid YAML"):
        read_pipeline(tmp_path / "binary.yml")
    (tmp_path / "large.yml").write_bytes(b"# \n" * 400_000)
    with pytest.raises(UserError, match="too large"):
        read_pipeline(tmp_path / "large.yml")
