"""Language models that optimum-intel exports for OpenVINO: against transformers."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import language_models as lm
import numpy as np
import pytest

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import FrameworkMissing, ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.optimize.frameworks.catalogue import OPENVINO
from pytest_edgeai.records import Recipe, RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec

VARIABLE = "PYTEST_EDGEAI_TEST_OPTIMUM_PYTHON"
INSTALL = 'pip install optimum-intel openvino nncf torch "transformers<5.6"'
CONTEXT = 128
TOKENS = lm.random_tokens({"vocab_size": 320}, 100)
PROMPT = TOKENS[:5].tolist()

# Runs in the interpreter of optimum-intel: writes models, and what transformers makes of TOKENS.
WRITE = """
import json, sys
import numpy as np, torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM
folder, tokens, count = json.loads(sys.argv[1])
torch.manual_seed(0)
sizes = dict(vocab_size=320, bos_token_id=None, eos_token_id=319, pad_token_id=319)
gpt2 = GPT2LMHeadModel(GPT2Config(n_positions=128, n_embd=64, n_layer=2, n_head=4, **sizes))
neox = GPTNeoXForCausalLM(GPTNeoXConfig(
    hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128, **sizes))
for name, model, dtype in (("gpt2", gpt2, torch.float32), ("gpt_neox", neox, torch.bfloat16)):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.to(dtype).save_pretrained(f"{folder}/{name}")
    model = model.float().eval()
    ids = torch.tensor([tokens])
    with torch.no_grad():
        np.save(f"{folder}/{name}.npy", model(ids).logits[0].numpy())
        made = model.generate(ids[:, :5], max_new_tokens=count, do_sample=False)
    np.save(f"{folder}/{name}-greedy.npy", made[0, 5:].numpy())
"""
GREEDY = 12


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """The interpreter that the environment names, or this one where it has optimum-intel."""
    found = Path(os.environ.get(VARIABLE, sys.executable))
    asked = "import importlib.metadata as m; m.version('optimum-intel')"
    if subprocess.run([found, "-c", asked], capture_output=True, check=False).returncode:
        pytest.skip(f"run: {INSTALL}; and name that interpreter in {VARIABLE}")
    return found


@pytest.fixture(scope="module")
def models(interpreter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, whose files no test changes."""
    folder = tmp_path_factory.mktemp("families")
    asked = json.dumps([str(folder), TOKENS.tolist(), GREEDY])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [interpreter, "-c", WRITE, asked], env=environment, capture_output=True, check=True
    )
    lm.write_tokenizer(folder / "gpt2", 320)
    return folder


@pytest.fixture(scope="module")
def worker(interpreter: Path) -> Iterator[Worker]:
    try:
        started = Worker.start(WorkerSpec(OPENVINO, interpreter), time_limit_s=120)
    except FrameworkMissing as missing:
        pytest.skip(f"{missing}; for {VARIABLE}")
    with started as running:
        yield running


def optimize(worker: Worker, source: Path, output: Path, scheme: str, **options: Any) -> Any:
    return worker.request(
        "optimize",
        time_limit_s=300,
        source=source,
        recipe=Recipe("openvino", scheme, options),
        architecture="language-model",
        inputs=[],
        calibration=None,
        output=output,
    )


def perplexity(worker: Worker, path: str, folder: Path) -> float:
    """Load an artifact as ``m`` and score the tokens with it."""
    np.save(folder / "ids.npy", TOKENS[None])
    worker.request(
        "load_language_model",
        time_limit_s=60,
        handle="m",
        path=path,
        runtime=RuntimeOptions(threads=1),
        context_tokens=CONTEXT,
    )
    ids = folder / "ids.npy"
    arguments: dict[str, Any] = {"ids": ids, "block": 0, "exchange": "", "role": "alone"}
    scored = worker.request("score", time_limit_s=60, handle="m", **arguments)
    return float(np.exp(np.mean(scored["nll"])))


@pytest.fixture(scope="module")
def converted(worker: Worker, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The answer to ``convert`` of GPT-2, whose files no test changes."""
    return optimize(worker, models / "gpt2", tmp_path_factory.mktemp("gpt2") / "made", "convert")


def test_a_family_without_a_graph_is_exported(
    worker: Worker, models: Path, converted: Any, tmp_path: Path
) -> None:
    source, made = models / "gpt2", converted
    path = Path(made["path"])
    assert {file.name for file in path.parent.iterdir()} == {
        *("openvino_model.xml", "openvino_model.bin", "config.json", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    for name in ("config.json", "tokenizer.json"):
        assert (path.parent / name).read_bytes() == (source / name).read_bytes()
    elements = read_structure(path).weight_elements
    assert set(elements) <= {"float32", "int64", "int32", "bool"}
    assert elements["float32"] > 100_000
    assert any(line.startswith("exported with optimum-intel ") for line in made["log"])
    expected = np.load(models / "gpt2.npy")
    found = perplexity(worker, made["path"], tmp_path)
    assert f"{found:.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"
    greedy = worker.request("generate", time_limit_s=60, handle="m", tokens=PROMPT, count=GREEDY)
    assert len(greedy["tokens"]) == GREEDY
    assert greedy["tokens"] == np.load(models / "gpt2-greedy.npy").tolist()


def test_openvino_genai_generates_the_same(models: Path, converted: Any) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("openvino", "openvino_genai")):
        pytest.skip("run: pip install openvino-genai")
    openvino, genai = map(importlib.import_module, ("openvino", "openvino_genai"))
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    folder = str(Path(converted["path"]).parent)
    pipeline = genai.LLMPipeline(folder, "CPU", ATTENTION_BACKEND="SDPA", **exact)
    ids = np.array([PROMPT], np.int64)
    inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
    result = pipeline.generate(inputs, max_new_tokens=GREEDY, do_sample=False, ignore_eos=True)
    assert result.tokens == [np.load(models / "gpt2-greedy.npy").tolist()]


def test_what_was_exported_is_compressed(worker: Worker, models: Path, tmp_path: Path) -> None:
    """Half precision is widened without loss before."""
    made = optimize(worker, models / "gpt_neox", tmp_path / "made", "int4-weights")
    assert "layers: int4 (8), int8 (2)" in made["log"]
    assert any(line.startswith("tensors were bfloat16") for line in made["log"])
    elements = read_structure(Path(made["path"])).weight_elements
    # Queries, keys and values; output; two feed-forward layers; of two blocks.
    assert elements["uint4"] >= 2 * 128 * (3 * 128 + 128 + 2 * 192)
    assert not {"float16", "bfloat16"} & set(elements)
    expected = lm.perplexity(np.load(models / "gpt_neox.npy"), TOKENS)
    assert 0.8 < perplexity(worker, made["path"], tmp_path) / expected < 1.25


def test_the_exporter_can_be_chosen(worker: Worker, tmp_path: Path) -> None:
    source = lm.write_huggingface(tmp_path / "llama", lm.CONFIG)
    expected = lm.plain_logits(lm.CONFIG, lm.llama_weights(lm.CONFIG), TOKENS)
    for exporter, exported in (("auto", False), ("optimum", True)):
        made = optimize(worker, source, tmp_path / exporter, "int8-weights", exporter=exporter)
        assert any("exported with" in line for line in made["log"]) == exported
        assert "layers: int8 (16)" in made["log"]
        ratio = perplexity(worker, made["path"], tmp_path) / lm.perplexity(expected, TOKENS)
        assert 0.98 < ratio < 1.02


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GPT2DoubleHeadsModel"]}, "transformers makes GPT2LMHeadModel"),
        ({"n_inner": 200}, "optimum-intel cannot export GPT2LMHeadModel"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}},
            "comes with a model is never run",
        ),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized already"),
        ({"architectures": []}, "architectures names 0 classes"),
    ],
    ids=["class", "shape", "code", "quantized", "none"],
)
def test_directories_that_are_refused(
    worker: Worker, models: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    source = shutil.copytree(models / "gpt2", tmp_path / "m")
    config = json.loads((source / "config.json").read_text()) | changes
    (source / "config.json").write_text(json.dumps(config))
    (source / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError) as caught:
        optimize(worker, source, tmp_path / "made", "convert")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "made").iterdir())


def test_weights_that_are_missing_are_not_made_up(
    worker: Worker, models: Path, tmp_path: Path
) -> None:
    """transformers would fill them with random numbers."""
    source = shutil.copytree(models / "gpt2", tmp_path / "m")
    file = source / "model.safetensors"
    content = file.read_bytes()
    name = b"transformer.h.1.mlp.c_fc.weight"
    file.write_bytes(content.replace(name, name.replace(b"c_fc", b"c_xx")))
    with pytest.raises(ModelError, match=r"1 tensors of GPT2LMHeadModel are missing: .*c_fc"):
        optimize(worker, source, tmp_path / "made", "convert")


def openvino_here() -> Any:
    """Return the adapter in this interpreter, which need not have optimum-intel."""
    if any(importlib.util.find_spec(name) is None for name in OPENVINO.distributions):
        pytest.skip(f"run: {OPENVINO.install}")
    from pytest_edgeai.optimize.frameworks.openvino import OpenVINO

    return OpenVINO()


def test_a_graph_that_computes_something_else_is_noticed(tmp_path: Path) -> None:
    framework = openvino_here()
    from pytest_edgeai.optimize.frameworks import openvino_language_export as export
    from pytest_edgeai.optimize.frameworks.openvino_language_exporter import LOGITS

    source, made = lm.write_huggingface(tmp_path / "llama", lm.CONFIG), tmp_path / "made"
    made.mkdir()
    recipe = Recipe("openvino", "convert", {"exporter": "graph"})
    request = OptimizeRequest(source, recipe, "language-model", (), None, made)
    framework.optimize(request, lambda what, fraction: None)
    right = lm.plain_logits(lm.CONFIG, lm.llama_weights(lm.CONFIG), TOKENS)
    other = lm.plain_logits(lm.CONFIG, lm.llama_weights(lm.CONFIG, seed=1), TOKENS)
    last = right.copy()
    last[-1] *= 1.01
    broken = np.where(right == right.max(), np.nan, right)
    for logits, least, most in (
        (right, 0.0, 1e-5),
        (last, 5e-3, 2e-2),
        (other, 0.1, 10.0),
        (right[:, :-1], np.inf, np.inf),
    ):
        np.save(made / LOGITS, logits.astype(np.float32))
        assert least <= export.deviation(framework._core, made, TOKENS) <= most
    np.save(made / LOGITS, broken.astype(np.float32))
    assert np.isnan(export.deviation(framework._core, made, TOKENS))
    assert 1e-5 < export.MOST_DEVIATION < 5e-3


def refused_here(source: Path, output: Path, **options: Any) -> str:
    """Return what is said about a recipe in this interpreter."""
    framework = openvino_here()
    output.mkdir()
    recipe = Recipe("openvino", "convert", options)
    request = OptimizeRequest(source, recipe, "language-model", (), None, output)
    with pytest.raises(ModelError) as caught:
        framework.optimize(request, lambda what, fraction: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_optimum_the_way_is_said(tmp_path: Path) -> None:
    installed = {each.name.lower() for each in importlib.metadata.distributions()}
    if "optimum-intel" in installed:
        pytest.skip("this interpreter has optimum-intel")
    llama = lm.write_huggingface(tmp_path / "llama", lm.CONFIG)
    config = lm.llama_config(architectures=["PersimmonForCausalLM"], model_type="persimmon")
    other = lm.write_huggingface(tmp_path / "other", config)
    for number, said in enumerate(
        (
            refused_here(other, tmp_path / "a"),
            refused_here(other, tmp_path / "b", exporter="graph"),
            refused_here(llama, tmp_path / "c", exporter="optimum"),
        )
    ):
        assert INSTALL in said
        assert "[frameworks.openvino] python = " in said
        if number < 2:
            assert "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3Fo" in said
        else:
            assert "exporting needs optimum-intel" in said
    assert "allowed: auto, graph, optimum" in refused_here(llama, tmp_path / "d", exporter="onnx")


def test_an_xml_file_is_exported_already(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(lm.CONFIG))
    (tmp_path / "model.xml").write_text("<net/>")
    said = refused_here(tmp_path / "model.xml", tmp_path / "made", exporter="optimum")
    assert "an .xml file is exported already" in said
