"""``--edge-plan`` prints the assessment and the plan, and runs and writes nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_runs import CANDIDATE, Place, Run

FAST = ("-k", "accuracy_retained or output_sanity or artifact_size")
"""Gates that take no timing."""
WITH_MLX = importlib.util.find_spec("mlx") is not None


def flat(run: Run) -> str:
    return " ".join(run.text.split())


def test_the_plan_names_host_model_candidates_and_limits(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", "--edge-framework=all", own_cache=True)
    assert run.code == 0
    told = flat(run)
    assert "host: " in run.text
    assert "linear: onnx, " in run.text
    for candidate in (CANDIDATE, "openvino-int8-static"):
        assert f"candidate {candidate} against onnxruntime" in run.text
        assert (
            f"{candidate}: INT8" in told
            or f"{candidate}: static INT8" in told
            or (f"{candidate}: NNCF" in told)
        )
    assert "speedup ≥ 0.01× (edgeai.toml)" in told
    assert "memory_cut off (edgeai.toml)" in told
    assert "accuracy_retained > 95% (default)" in told
    assert "quantization by framework" in run.text
    assert "edge gates" not in run.text
    assert not (place.path / ".edgeai").exists()
    assert run.report == {}


def test_a_plan_without_the_terminal_reporter_fails_in_no_way(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", "-p", "no:terminal")
    assert run.code == 0
    assert "Traceback" not in run.result.stderr.str()


def test_the_plan_fits_a_terminal_of_80_columns(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    place.write()
    run = place.run("--edge-plan", target="all")
    plan = run.text.split("edge plan", 1)[1].split("no tests ran", 1)[0].splitlines()
    assert max(map(len, plan[1:-1])) <= 80
    assert "1.  intel: " in run.text


def test_apple_explains_why_a_classifier_goes_to_onnx_runtime(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", target="apple")
    assert "1. mlx: does not take onnx models" in run.text
    assert "2. llamacpp: does not take onnx models" in run.text
    assert f"candidate {CANDIDATE}" in run.text


@pytest.mark.parametrize(
    ("target", "key", "limit"),
    [
        ("arm-mobile", "", "≤ 95.4 MiB (target arm-mobile)"),
        ("apple", "", "no limit (default)"),
        ("apple", 'deployment = "ios"\n', "≤ 47.7 MiB (deployment ios)"),
        ("arm-mobile", 'deployment = "ios"\n', "≤ 47.7 MiB (deployment ios)"),
        ("arm-mobile", "gates = { artifact_size = false }\n", "off (edgeai.toml)"),
        ("arm-mobile", 'gates = { artifact_size = "1 GiB" }\n', "≤ 1 GiB (edgeai.toml)"),
    ],
)
def test_the_limits_of_mobile_packages(place: Place, target: str, key: str, limit: str) -> None:
    manifest = place.write()
    manifest.write_text(manifest.read_text("utf-8").replace("task =", f"{key}task ="), "utf-8")
    run = place.run("--edge-plan", target=target)
    assert f"artifact_size {limit}" in flat(run)


def test_a_package_that_is_too_large_fails(place: Place) -> None:
    manifest = place.write()
    run = place.run("-k", "artifact_size", target="arm-mobile")
    [gate] = run.candidate()["gates"]
    assert (run.code, gate["outcome"]) == (0, "pass")
    assert gate["threshold"] == 99_999_999
    assert gate["threshold_origin"] == "target arm-mobile"
    with (place.path / "conftest.py").open("w") as file:
        file.write(
            "import dataclasses\n"
            "from pytest_edgeai.plan.targets import TARGETS\n"
            "def pytest_edgeai_targets():\n"
            "    return [dataclasses.replace(TARGETS['arm-mobile'], artifact_limit_bytes=1000)]\n"
        )
    assert manifest.exists()
    run = place.run("-k", "artifact_size", target="arm-mobile")
    [gate] = run.candidate()["gates"]
    assert (run.code, gate["outcome"], gate["threshold"]) == (1, "fail", 1000)


def test_small_models_stay_under_the_stricter_limit(place: Place) -> None:
    place.write("")
    run = place.run("-k", "artifact_size", target="arm-mobile")
    [gate] = run.candidate()["gates"]
    assert "too small to compare memory" in gate["reason"]
    assert gate["threshold"] < 99_999_999


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, 'no array "labels"; allowed: one label per sample'),
        ({"features": np.zeros((600, 8), "f4")}, "has shape (600, 8) and the model's input is any"),
    ],
    ids=["no-labels", "shape"],
)
def test_data_that_do_not_fit_are_told_by_the_plan(
    place: Place, changes: dict[str, np.ndarray | None], said: str
) -> None:
    place.write()
    data = place.path / place.linear.data.name
    with np.load(data) as arrays:
        kept = {**arrays, **changes}
    np.savez(data, **{name: array for name, array in kept.items() if array is not None})
    run = place.run("--edge-plan")
    assert run.code == 4
    assert said in run.result.stderr.str()


def test_an_unknown_deployment_is_one_line(place: Place) -> None:
    manifest = place.write()
    text = manifest.read_text("utf-8").replace("task =", 'deployment = "ipad"\ntask =')
    manifest.write_text(text, "utf-8")
    run = place.run("--edge-plan")
    assert run.code == 4
    assert 'deployment: unknown deployment "ipad"; allowed: ios, android' in (
        run.result.stderr.str()
    )


# Every target of this host in one session


@pytest.mark.parametrize("processes", [1, 2])
def test_all_targets_share_what_is_the_same(place: Place, processes: int) -> None:
    place.write()
    parallel = [f"-n{processes}"] if processes > 1 else []
    if parallel:
        pytest.importorskip("xdist")
    run = place.run(*FAST, *parallel, target="all", own_cache=True)
    assert run.code == 0, run.text
    [model] = run.report["models"]
    ids = [candidate["id"] for candidate in model["candidates"]]
    assert f"{CANDIDATE}@cross" in ids
    assert f"{CANDIDATE}@apple" in ids
    assert len(ids) == len(set(ids))
    recipes = {name.partition("@")[0] for name in ids}
    made = [path for path in (place.path / ".edgeai/artifacts").iterdir() if path.is_dir()]
    assert len(made) == len(recipes), "each artifact is made once"
    evidence = Path(run.report["evidence"]["directory"]) / "linear"
    assert {path.parent.name for path in evidence.glob("*/quality.npz")} == recipes
    targets = [host["target"] for host in run.report["hosts"]]
    assert targets == [
        name
        for name in (
            *("intel", "nvidia", "apple", "arm-mobile", "arm-embedded", "edge-tpu"),
            *("cross", "enterprise", "qualcomm"),
        )
        if any(node.endswith(f"@{name}") for node in ids)
    ]


def test_the_targets_of_the_manifest_bound_all(place: Place) -> None:
    manifest = place.write()
    text = manifest.read_text("utf-8").replace("task =", 'targets = ["cross", "apple"]\ntask =')
    manifest.write_text(text, "utf-8")
    run = place.run("--co", "-q", target="all")
    found = {line.split("::")[2] for line in run.text.splitlines() if "::speedup" in line}
    assert found == {f"{CANDIDATE}@cross", f"{CANDIDATE}@apple"}


def test_targets_that_cannot_be_served_are_named(place: Place) -> None:
    manifest = place.write()
    text = manifest.read_text("utf-8").replace("task =", 'targets = ["cross", "edge-tpu"]\ntask =')
    manifest.write_text(text, "utf-8")
    run = place.run("--co", "--edge-framework=onnxruntime", target="all")
    assert "edgeai: not gated for edge-tpu: none of its frameworks was asked for" in run.text
    assert f"{CANDIDATE}@cross" in run.text
    assert "@edge-tpu" not in run.text


COUNTING = """
from pytest_edgeai.descriptors import GateDescriptor

def pytest_edgeai_gates():
    return [
        GateDescriptor(name, f"counted:test_{name}", f"counted:decide_{name}", "at_least", 1.0,
                       "ratio", name, measures_speed=name == "timed")
        for name in ("timed", "read")
    ]
"""
COUNTED = """
from pathlib import Path

from pytest_edgeai.records import Verdict

def deciding(name):
    def decide(bench, candidate, threshold):
        with Path(__file__).with_name(f"{name}.txt").open("a") as file:
            print(candidate.node, file=file)
        return Verdict(name, "inconclusive", 1.0, None, None, threshold.value,
                       threshold.relation, "ratio", 1, "undecided")
    return decide

def testing(name):
    def test(edge_compare):
        edge_compare(name)
    return test

decide_timed, decide_read = deciding("timed"), deciding("read")
test_timed, test_read = testing("timed"), testing("read")
"""


def test_what_was_timed_for_one_target_is_not_timed_for_the_next(place: Place) -> None:
    manifest = place.write()
    text = manifest.read_text("utf-8").replace("task =", 'targets = ["cross", "apple"]\ntask =')
    manifest.write_text(text, "utf-8")
    place.pytester.makeconftest(COUNTING)
    place.pytester.makepyfile(counted=COUNTED)
    run = place.run("-k", "timed or read", "--edge-inconclusive=skip", target="all")
    assert (run.code, run.outcomes["skipped"]) == (0, 4)
    both = {f"{CANDIDATE}@cross", f"{CANDIDATE}@apple"}
    assert set((place.path / "read.txt").read_text().split()) == both
    assert len((place.path / "timed.txt").read_text().split()) == 1
    outcomes = {
        candidate["id"]: {gate["name"]: gate["outcome"] for gate in candidate["gates"]}
        for candidate in run.report["models"][0]["candidates"]
    }
    assert outcomes == {
        f"{CANDIDATE}@cross": {"timed": "inconclusive", "read": "inconclusive"},
        f"{CANDIDATE}@apple": {"timed": "proxy", "read": "inconclusive"},
    }


def test_all_and_a_name_do_not_mix(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", target="all,cross")
    assert run.code == 4
    assert '--edge-target: "all,cross" mixes words; allowed: all, or names' in (
        run.result.stderr.str()
    )


@pytest.mark.skipif(not WITH_MLX, reason="mlx is not installed; pip install 'pytest-edgeai[apple]'")
def test_a_language_model_on_apple_is_planned_for_mlx(place: Place) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = place.path / "chat"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps(config))
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (64, 128),
        "model.norm.weight": (128,),
        "lm_head.weight": (64, 128),
        f"{layer}.input_layernorm.weight": (128,),
        f"{layer}.post_attention_layernorm.weight": (128,),
        f"{layer}.self_attn.q_proj.weight": (128, 128),
        f"{layer}.self_attn.k_proj.weight": (64, 128),
        f"{layer}.self_attn.v_proj.weight": (64, 128),
        f"{layer}.self_attn.o_proj.weight": (128, 128),
        f"{layer}.mlp.gate_proj.weight": (96, 128),
        f"{layer}.mlp.up_proj.weight": (96, 128),
        f"{layer}.mlp.down_proj.weight": (128, 96),
    }
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    safetensors.save_file(arrays, folder / "model.safetensors")
    np.savez(place.path / "tokens.npz", input_ids=np.zeros((4, 32), np.int32))
    (place.path / "edgeai.toml").write_text(
        '[models.chat]\npath = "chat"\ntask = "text-generation"\ndata = "tokens.npz"\n'
    )
    run = place.run("--edge-plan", target="apple")
    assert run.code == 0, run.text + run.result.stderr.str()
    told = flat(run)
    assert "chat: huggingface, language-model for text-generation" in told
    assert "candidate mlx-int4-g64 against mlx, converted at full precision" in told
    assert "rows of 96, no multiple of 64, and keep their precision" in told
    assert "no multiple of 256, and are stored as q5_0 instead" in told
    if sys.platform == "linux":
        run = place.run("--edge-plan", "--edge-framework=mlx", target="cross")
        assert "edgeai: mlx is a proxy for cross on this host: MLX computes on the CPU" in run.text
