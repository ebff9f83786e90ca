from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.manifest import find_manifest, has_edgeai_table, read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue, Manifest

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
MODEL = """
[models.{name}]
path = "model.onnx"
task = "image-classification"
data = "test.npz"
"""
GOOD = MODEL.format(name="m")


def read(directory: Path, text: str, name: str = "edgeai.toml") -> Manifest:
    for file in ("model.onnx", "test.npz", "calibration.npz"):
        (directory / file).write_bytes(b"")
    (directory / name).write_text(text, encoding="utf-8")
    return read_manifest(directory / name, CATALOGUE)


def test_the_smallest_manifest(tmp_path: Path) -> None:
    manifest = read(tmp_path, GOOD)
    [model] = manifest.models
    assert model.name == "m"
    assert model.path == tmp_path / "model.onnx"
    assert model.data.path == tmp_path / "test.npz"
    assert model.calibration is None
    assert (model.metric, model.baseline, model.batch) == ("accuracy", "native", 1)
    assert (model.targets, model.recipes, model.output, model.classes) == (None, None, None, None)
    assert manifest.problems == {}


def test_everything_a_model_can_say(tmp_path: Path) -> None:
    text = (
        GOOD
        + """
calibration = "calibration.npz"
metric = "mine:score"
baseline = "openvino"
targets = ["intel", "cross"]
output = "logits"
classes = ["a", "b"]
batch = 4
gates = { speedup = 3, artifact_size = "5 MB", latency_p99_limit_ms = 7.5 }
[[models.m.recipes]]
framework = "openvino"
scheme = "int8-static"
label = "mixed"
options = { preset = "mixed" }
[[known_failures]]
model = "m"
gate = "speedup"
reason = "later"
candidate = "openvino-int8-static-mixed"
"""
    )
    manifest = read(tmp_path, text)
    [model] = manifest.models
    assert model.calibration is not None
    assert model.calibration.where == "edgeai.toml [models.m] calibration"
    assert (model.metric, model.baseline, model.batch) == ("mine:score", "openvino", 4)
    assert model.gates == {"speedup": 3, "artifact_size": "5 MB", "latency_p99_limit_ms": 7.5}
    assert model.recipes is not None
    [recipe] = model.recipes
    assert recipe.id == "openvino-int8-static-mixed"
    assert recipe.options == {"preset": "mixed"}
    [failure] = manifest.known_failures
    assert (failure.model, failure.gate, failure.reason) == ("m", "speedup", "later")
    assert failure.candidate == recipe.id


def test_interpreters_and_gates_of_the_whole_manifest(tmp_path: Path) -> None:
    python = Path(sys.executable).as_posix()
    text = GOOD + f'[gates]\nspeedup = 1.5\n[frameworks.openvino]\npython = "{python}"\n'
    manifest = read(tmp_path, text)
    assert manifest.gates == {"speedup": 1.5}
    assert manifest.interpreters == {"openvino": Path(sys.executable)}


def test_data_may_be_a_callable(tmp_path: Path) -> None:
    manifest = read(tmp_path, GOOD.replace("test.npz", "package.module:load"))
    assert manifest.models[0].data.reference == "package.module:load"
    assert manifest.models[0].data.path is None


def test_one_broken_model_leaves_the_others(tmp_path: Path) -> None:
    broken = MODEL.format(name="broken").replace("model.onnx", "nowhere.onnx")
    manifest = read(tmp_path, GOOD + broken)
    assert [model.name for model in manifest.models] == ["m"]
    assert list(manifest.problems) == ["broken"]
    assert "[models.broken] path" in str(manifest.problems["broken"])


def test_a_broken_only_model_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        read(tmp_path, GOOD.replace("model.onnx", "nowhere.onnx"))


def test_a_wrong_gate_of_a_model_concerns_the_whole_manifest(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"edgeai.toml \[models.m.gates\] speedup: nan is not finite"
    ):
        read(tmp_path, GOOD + "gates = { speedup = nan }\n" + MODEL.format(name="other"))


def test_a_task_without_a_default_metric_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='task "text-to-image" has no default metric'):
        read(tmp_path, GOOD.replace("image-classification", "text-to-image"))


@given(
    st.dictionaries(
        st.sampled_from(["models", "gates", "settings", "frameworks", "known_failures", "x"]),
        st.integers() | st.text(alphabet="ab.", max_size=3) | st.booleans(),
        max_size=3,
    )
)
def test_any_scalars_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in content.items()
    ]
    path = tmp_path_factory.mktemp("manifest") / "edgeai.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        read_manifest(path, CATALOGUE)
    assert "edgeai.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_nearest_manifest_is_found(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_manifest(below) is None or tmp_path not in (find_manifest(below) or Path()).parents
    (tmp_path / "edgeai.toml").write_text("")
    assert find_manifest(below) == tmp_path / "edgeai.toml"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.edgeai]\n")
    assert find_manifest(below) == tmp_path / "a" / "pyproject.toml"
    (tmp_path / "a" / "edgeai.toml").write_text("")
    with pytest.raises(UserError, match=r"both edgeai\.toml and"):
        find_manifest(below)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[tool.edgeai]\n", True),
        ("[tool.edgeai.models.m]\n", True),
        ("[project]\nname = 'edgeai'\n", False),
        ("tool = 'edgeai'\n", False),
        ("[tool.edgeai\n", False),
        ("", False),
    ],
)
def test_which_pyproject_has_the_table(tmp_path: Path, content: str, expected: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    assert has_edgeai_table(tmp_path / "pyproject.toml") is expected


def test_a_named_pyproject_without_the_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \[tool.edgeai\] table"):
        read(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")


def test_places_in_pyproject(tmp_path: Path) -> None:
    text = GOOD.replace("[models", "[tool.edgeai.models") + "batch = 0\n"
    with pytest.raises(ModelError, match=r"pyproject.toml \[tool.edgeai.models.m\] batch"):
        read(tmp_path, text, "pyproject.toml")


def test_an_unknown_option_of_a_recipe_is_refused(tmp_path: Path) -> None:
    recipe = (
        '[[models.m.recipes]]\nframework = "openvino"\nscheme = "int8-weights"\n'
        'options = { mod = "int8_sym" }\n'
    )
    with pytest.raises(UserError, match=r'unknown key "mod".*Did you mean "mode"'):
        read(tmp_path, GOOD + recipe)


def test_advisories_are_an_archive_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "osv").mkdir()
    assert read(tmp_path, GOOD + '[production]\nadvisories = "osv"\n').production is not None
    (tmp_path / "all.zip").write_bytes(b"half of a download")
    with pytest.raises(UserError, match=r'"all.zip" is no export of advisories'):
        read(tmp_path, GOOD + '[production]\nadvisories = "all.zip"\n')
