"""Language models in OpenVINO against NumPy."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import language_models as lm
import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult
from pytest_edgeai.optimize.frameworks.catalogue import OPENVINO
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.records import Architecture, Recipe, RuntimeOptions

if any(importlib.util.find_spec(name) is None for name in OPENVINO.distributions):
    pytest.skip(f"run: {OPENVINO.install}", allow_module_level=True)

import openvino

from pytest_edgeai.optimize.frameworks.openvino import OpenVINO
from pytest_edgeai.optimize.frameworks.openvino_language import (
    CALLS_PER_REWIND,
    OpenVINOLanguageModel,
)
from pytest_edgeai.optimize.frameworks.openvino_language_source import is_language_model

Make: TypeAlias = Callable[..., OptimizeResult]

CONTEXT = 128
CONFIG = lm.llama_config(intermediate_size=128)
TOKENS = lm.random_tokens(CONFIG, 100)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Activations stay in float32: what is left is what the stored weights say.
EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
ONE_THREAD = RuntimeOptions(threads=1)


@pytest.fixture(scope="module")
def framework() -> OpenVINO:
    return OpenVINO()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in float32 with a tokenizer, whose files no test changes."""
    return lm.write_huggingface(tmp_path_factory.mktemp("openvino") / "llama", CONFIG)


@pytest.fixture(scope="module")
def converted(
    framework: OpenVINO, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The artifact of ``convert``, whose files no test changes."""
    return optimize(framework, directory, tmp_path_factory.mktemp("made") / "a", "convert").path


@pytest.fixture(scope="module")
def model(framework: OpenVINO, converted: Path) -> OpenVINOLanguageModel:
    return load(framework, converted)


@pytest.fixture
def make(framework: OpenVINO, tmp_path: Path) -> Make:
    """Return a function that makes an artifact in a folder of its own."""

    def in_folder(source: Path, scheme: str = "convert", **options: Any) -> OptimizeResult:
        output = tmp_path / f"made-{scheme}-{len(list(tmp_path.iterdir()))}"
        return optimize(framework, source, output, scheme, **options)

    return in_folder


def optimize(
    framework: OpenVINO, source: Path, output: Path, scheme: str, **options: Any
) -> OptimizeResult:
    output.mkdir()
    recipe = Recipe("openvino", scheme, options)
    # Of an .xml file the graph alone is read, which says no more.
    architecture: Architecture = "transformer" if source.suffix == ".xml" else "language-model"
    request = OptimizeRequest(source, recipe, architecture, (), None, output)
    fractions: list[float] = []
    result = framework.optimize(request, lambda what, fraction: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    return result


def load(
    framework: OpenVINO,
    path: Path,
    context_tokens: int = CONTEXT,
    hints: Mapping[str, str] | None = None,
) -> OpenVINOLanguageModel:
    runtime = RuntimeOptions(threads=1, hints=dict(hints or {}))
    return framework.load_language_model(path, runtime, context_tokens)


def relative_error(found: Any, expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def changed(directory: Path, target: Path, **changes: Any) -> Path:
    """Return a copy of a model whose configuration differs; ``None`` takes a key away."""
    shutil.copytree(directory, target)
    config = json.loads((target / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config))
    return target


def stored_weights(path: Path) -> lm.Weights:
    """Return the weights that an artifact describes, restored by OpenVINO's own operators."""
    names = set(lm.llama_weights(CONFIG))
    core = openvino.Core()
    graph = core.read_model(path)
    found: lm.Weights = {}
    for operator in graph.get_ordered_ops():
        kind, name = operator.get_type_name(), operator.get_friendly_name()
        position = {"MatMul": 1, "Gather": 0, "Multiply": 1}.get(kind)
        if position is None or f"{name}.weight" not in names:
            continue
        weights = openvino.Model([operator.input_value(position)], [], name)
        values = core.compile_model(weights, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})()[0]
        # A norm's weight is shaped for its product.
        found[f"{name}.weight"] = np.array(values).squeeze()
    return found


@pytest.mark.parametrize(
    ("changes", "shards"),
    [
        ({}, 3),
        ({"tie_word_embeddings": True}, 1),
        ({"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}, 1),
        ({"rope_scaling": LLAMA3_ROPE, "num_key_value_heads": 4}, 1),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_type": "linear"}}, 1),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, 1),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "head_dim": 24}, 1),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, 1),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 32}, 1),
    ],
    ids=["shards", "tied", "biases", "llama3", "linear", "theta", "mistral", "qwen2", "qwen3"],
)
def test_logits_and_perplexity(
    framework: OpenVINO, make: Make, tmp_path: Path, changes: Mapping[str, Any], shards: int
) -> None:
    config = lm.llama_config(**changes)
    made = make(lm.write_huggingface(tmp_path / "model", config, shards=shards))
    expected = lm.plain_logits(config, lm.llama_weights(config), TOKENS)
    loaded = load(framework, made.path)
    found = loaded.logits(TOKENS)
    assert found.dtype == np.float32
    assert found.shape == (100, loaded.vocabulary) == (100, 320)
    assert relative_error(found, expected) < 1e-5
    perplexity = lm.perplexity(found, TOKENS)
    assert f"{perplexity:.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"
    # Token by token, through the cache.
    assert relative_error(loaded.bind_decode(TOKENS)(), expected[-1]) < 1e-5
    np.testing.assert_array_equal(loaded.logits(TOKENS), found, "the same tokens again")
    found[:] = 0
    assert loaded.logits(TOKENS).any(), "the returned array is the caller's"


def test_callers_tokens_stay_as_they_are(model: OpenVINOLanguageModel) -> None:
    tokens = TOKENS.copy()
    calls = [bind(tokens) for bind in (model.bind_prefill, model.bind_decode)]
    expected = [np.array(call()) for call in calls]
    model.logits(np.zeros(50, np.int32))
    model.generate(np.ones(7, np.int32), 3)
    np.testing.assert_array_equal(tokens, TOKENS)
    tokens[:] = 0
    for call, logits in zip(calls, expected, strict=True):
        assert relative_error(call(), logits) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 100, CONTEXT])
def test_bound_calls_repeat(model: OpenVINOLanguageModel, count: int) -> None:
    """Each call of one kind does the same work at the same depth, whatever runs in between."""
    tokens = lm.random_tokens(CONFIG, count)
    expected = model.logits(tokens)[-1]
    prefill, decode = model.bind_prefill(tokens), model.bind_decode(tokens)
    first_token = model.bind_first_token(tokens)
    for number in range(2 * CALLS_PER_REWIND + 3):
        assert relative_error(decode(), expected) < 1e-5, number
        if number % 10 == 0:
            assert relative_error(prefill(), expected) < 1e-5
            assert first_token() == expected.argmax()
            model.generate(TOKENS[:9], 3)


def test_greedy_generation(model: OpenVINOLanguageModel) -> None:
    expected = TOKENS[:5]
    for _ in range(12):
        likeliest = model.logits(expected)[-1].argmax()
        expected = np.append(expected, likeliest).astype(np.int32)
    found = model.generate(TOKENS[:5], 12)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected[5:])
    np.testing.assert_array_equal(model.generate(TOKENS[:5], 12), found)
    assert model.generate(TOKENS[:5], 0).shape == (0,)


@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_generation_ends_at_an_end_token(
    framework: OpenVINO, model: OpenVINOLanguageModel, converted: Path, tmp_path: Path, place: str
) -> None:
    free = model.generate(TOKENS[:5], 8)
    end = int(free[4])
    stop = list(free).index(end) + 1
    if place == "config.json":
        path = changed(converted.parent, tmp_path / "m", eos_token_id=[319, end])
    else:
        path = changed(converted.parent, tmp_path / "m", eos_token_id=int(free[0]))
        (path / place).write_text(json.dumps({"eos_token_id": end}))
    np.testing.assert_array_equal(load(framework, path).generate(TOKENS[:5], 8), free[:stop])


def test_what_it_says_about_itself(
    framework: OpenVINO, model: OpenVINOLanguageModel, converted: Path
) -> None:
    facts = model.execution()
    # Seven products in each of two blocks and the output layer, beside much else.
    assert facts.executed_precisions["float32"] > 15
    assert not {"float16", "bfloat16", "int8", "int4"} & set(facts.executed_precisions)
    assert facts.executed_devices == ("CPU",)
    assert model.context_tokens == CONTEXT
    # Keys and values of 2 blocks, 2 heads of 16 each, float32.
    assert model.kv_cache_bytes == 2 * 2 * 2 * 16 * 4 * CONTEXT
    halved = load(framework, converted, hints={"KV_CACHE_PRECISION": "f16"})
    assert halved.kv_cache_bytes == model.kv_cache_bytes // 2
    assert 1e-6 < relative_error(halved.bind_decode(TOKENS)(), model.logits(TOKENS)[-1]) < 1e-2


def test_attention_is_one_kernel_that_owns_the_cache(model: OpenVINOLanguageModel) -> None:
    """The graph has the form that the plugin fuses; otherwise each call would copy the cache."""
    layers = [
        operator.get_rt_info()["layerType"].astype(str)
        for operator in model._compiled.get_runtime_model().get_ordered_ops()
    ]
    assert layers.count("ScaledDotProductAttention") == 2
    assert layers.count("RMS") == 5
    assert layers.count("RoPE") == 4
    assert layers.count("FullyConnected") == 15
    assert "Concatenation" not in layers or layers.count("Concatenation") == 1, "shapes alone"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32_without_loss(
    framework: OpenVINO, make: Make, tmp_path: Path, dtype: str
) -> None:
    made = make(lm.write_huggingface(tmp_path / "model", CONFIG, dtype=dtype))
    assert any(line.startswith(f"tensors were {dtype}") for line in made.log)
    assert set(read_structure(made.path).weight_elements) == {"float32"}
    weights = lm.rounded(lm.llama_weights(CONFIG), dtype)
    found = load(framework, made.path).logits(TOKENS)
    assert relative_error(found, lm.plain_logits(CONFIG, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize(
    ("scheme", "options", "stored", "executed", "error"),
    [
        ("int8-weights", {}, {"uint8": 16}, {"int8": 15}, (0.001, 0.01)),
        ("int8-weights", {"mode": "int8_sym"}, {"int8": 16}, {"int8": 16}, (0.001, 0.01)),
        ("int4-weights", {}, {"uint4": 14, "uint8": 2}, {"int4": 14, "int8": 1}, (0.0, 0.12)),
        (
            "int4-weights",
            {"mode": "int4_sym", "group_size": 32, "all_layers": True},
            {"int4": 16},
            {"int4": 16},
            (0.01, 0.15),
        ),
    ],
)
def test_compressed(
    framework: OpenVINO,
    make: Make,
    directory: Path,
    scheme: str,
    options: Mapping[str, Any],
    stored: Mapping[str, int],
    executed: Mapping[str, int],
    error: tuple[float, float],
) -> None:
    made = make(directory, scheme, **options)
    structure = read_structure(made.path)
    assert set(structure.weight_elements) == {"float32", *stored}
    assert structure.weight_elements["float32"] / structure.parameters < 0.01, "norms alone"
    stored_bytes = made.path.with_suffix(".bin").stat().st_size
    assert stored_bytes / structure.parameters < (1.2 if "int8" in scheme else 0.9)
    assert structure.quantized_operators
    claimed = {name.removeprefix("u"): count for name, count in stored.items()}
    listed = ", ".join(f"{name} ({count})" for name, count in claimed.items())
    assert f"layers: {listed}" in made.log
    assert ("not int4: lm_head (int8)" in made.log) == (len(stored) == 2)
    compressed = load(framework, made.path)
    counts = compressed.execution().executed_precisions
    assert {name: counts[name] for name in executed} == executed
    # Exactly the model that the stored integers describe ...
    weights = stored_weights(made.path)
    exact = load(framework, made.path, hints=EXACT)
    expected = lm.plain_logits(CONFIG, weights, TOKENS)
    found = exact.logits(TOKENS)
    assert relative_error(found, expected) < 1e-5
    assert f"{lm.perplexity(found, TOKENS):.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"
    assert relative_error(exact.bind_decode(TOKENS)(), expected[-1]) < 1e-5
    # ... whose weights are those of the source, rounded; activations are rounded to 8 bits beside.
    originals = lm.llama_weights(CONFIG)
    assert set(weights) == set(originals)
    for name, original in originals.items():
        low, high = error if original.ndim > 1 else (-1.0, 1e-9)
        assert low < relative_error(weights[name], original) < high, name
    assert relative_error(compressed.logits(TOKENS), expected) < 0.05


def test_rows_that_no_group_fits_are_reported(make: Make, tmp_path: Path) -> None:
    config = lm.llama_config(hidden_size=64, intermediate_size=88)
    made = make(lm.write_huggingface(tmp_path / "model", config), "int4-weights")
    assert "not int4: model.layers.0.mlp.down_proj (int8)" in made.log
    assert "layers: int4 (12), int8 (4)" in made.log


def test_layers_that_are_left_out(make: Make, directory: Path) -> None:
    made = make(directory, "int8-weights", ignored_patterns=[r".*down_proj"])
    assert "not int8: model.layers.1.mlp.down_proj (f32)" in made.log
    half = make(directory, "int4-weights", ratio=0.5)
    elements = read_structure(half.path).weight_elements
    assert 0 < elements["uint4"] < 73_728 < elements["uint8"]


def test_an_xml_file_is_compressed_too(
    make: Make, directory: Path, converted: Path, tmp_path: Path
) -> None:
    exported = changed(converted.parent, tmp_path / "exported") / converted.name
    (exported.parent / "openvino_tokenizer.bin").write_bytes(b"text to tokens")
    made = make(exported, "int8-weights")
    from_directory = make(directory, "int8-weights")
    assert made.path.with_suffix(".bin").read_bytes() == (
        from_directory.path.with_suffix(".bin").read_bytes()
    )
    names = {file.name for file in made.path.parent.iterdir()} - {"openvino_tokenizer.bin"}
    assert names == {file.name for file in from_directory.path.parent.iterdir()}
    assert (made.path.parent / "openvino_tokenizer.bin").is_file()


def test_a_configuration_of_something_else_makes_no_language_model(tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    assert not is_language_model(file)
    for content, expected in (
        ("{}", False),
        ("{", False),
        (json.dumps({"model_type": "vit", "architectures": ["ViTForImageClassification"]}), False),
        (json.dumps(CONFIG), True),
    ):
        (tmp_path / "config.json").write_text(content)
        assert is_language_model(file) == expected
    assert not is_language_model(tmp_path / "model.onnx")
    assert is_language_model(tmp_path)


def test_tokenizer_and_settings_come_along(
    framework: OpenVINO, make: Make, directory: Path, tmp_path: Path
) -> None:
    source = changed(directory, tmp_path / "m")
    (source / "generation_config.json").write_text('{"eos_token_id": 7}')
    made = make(source)
    assert made.path.name == "openvino_model.xml"
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ):
        assert (made.path.parent / name).read_bytes() == (source / name).read_bytes()
    text = "the model that it replaces"
    ids = framework.tokenize(made.path, text)
    np.testing.assert_array_equal(ids, framework.tokenize(source, text))
    assert 0 < len(ids) < len(text)


def test_sliding_windows_end_the_context(framework: OpenVINO, make: Make, tmp_path: Path) -> None:
    config = lm.llama_config(
        model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=48
    )
    made = make(lm.write_huggingface(tmp_path / "model", config))
    assert "context length: 48 tokens, the sliding window (128 in config.json)" in made.log
    with pytest.raises(ModelError, match=r"context of 49 tokens.*1 to 48"):
        load(framework, made.path, 49)
    assert load(framework, made.path, 48).logits(TOKENS[:48]).shape == (48, 320)


@pytest.mark.parametrize(
    ("scheme", "options", "said"),
    [
        ("int4-weight", {}, r'no scheme "int4-weight".*Did you mean "int4-weights"'),
        ("int8-static", {}, "for language models; allowed: convert, int8-weights, int4-weights"),
        ("convert", {"mode": "int8_sym"}, 'unknown option "mode"'),
        ("int8-weights", {"mode": "int4_sym"}, "allowed: int8_asym, int8_sym"),
        ("int8-weights", {"ratio": 0.5}, 'unknown option "ratio"'),
        ("int4-weights", {"ratio": 0.0}, "a number from 0.01 to 1"),
        ("int4-weights", {"group_size": 0}, "a whole number from 1 on"),
        ("int4-weights", {"ignored_names": ["nothing"]}, "nncf cannot make int4-weights"),
        ("int4-weights", {"ignored_patterns": [".*proj"]}, "nothing was compressed to int4"),
    ],
)
def test_recipes_that_are_refused(
    make: Make, directory: Path, scheme: str, options: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        make(directory, scheme, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, 'no graph is known for "GemmaForCausalLM"'),
        ({"architectures": None}, 'no graph is known for "llama"; allowed: LlamaForCausalLM'),
        ({"vocab_size": 500}, "vocab_size is 500"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4"),
        ({"intermediate_size": 192}, "intermediate_size is 192"),
        ({"num_attention_heads": 8, "head_dim": 16}, "num_attention_heads x head size is 128"),
        ({"num_attention_heads": 3}, "num_attention_heads x head size is 63"),
        ({"rms_norm_eps": "small"}, 'rms_norm_eps is "small"'),
        ({"rope_scaling": {"rope_type": "yarn"}}, 'type "yarn"; allowed: default, linear, llama3'),
        ({"attention_bias": True}, "self_attn.q_proj.bias is missing"),
        ({"tie_word_embeddings": True, "hidden_act": "gelu"}, 'hidden_act is "gelu"'),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized already"),
        ({"num_local_experts": 8}, "num_local_experts is 8"),
    ],
)
def test_configurations_that_lie(
    make: Make, directory: Path, tmp_path: Path, changes: Mapping[str, Any], said: str
) -> None:
    path = changed(directory, tmp_path / "m", **changes)
    with pytest.raises(ModelError) as caught:
        make(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "llama.cpp" not in str(caught.value)
    assert "GGUF" not in str(caught.value)


def test_incomplete_and_damaged_directories(
    framework: OpenVINO, make: Make, directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        make(tmp_path / "nothing")
    sharded = lm.write_huggingface(tmp_path / "sharded", CONFIG, shards=3)
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"1 of 3 weight files are missing.*00002-of-00003"):
        make(sharded)
    short = changed(directory, tmp_path / "short")
    weights = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ModelError, match="cut short"):
        make(short)
    tensors = lm.llama_weights(CONFIG)
    extra = {**tensors, "model.layers.0.self_attn.sinks": np.ones(4, np.float32)}
    with pytest.raises(ModelError, match=r"1 tensors have no place.*self_attn\.sinks"):
        make(lm.write_huggingface(tmp_path / "extra", CONFIG, weights=extra))
    silent = make(lm.write_huggingface(tmp_path / "silent", CONFIG, tokenizer=False)).path
    with pytest.raises(ModelError, match="no tokenizer"):
        framework.tokenize(silent, "text")
    assert load(framework, silent).vocabulary == 320, "token ids need no tokenizer"


def test_damaged_artifacts(framework: OpenVINO, converted: Path, tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        return changed(converted.parent, tmp_path / name) / converted.name

    no_config = damaged("a")
    (no_config.parent / "config.json").unlink()
    no_weights = damaged("b")
    no_weights.with_suffix(".bin").unlink()
    cut_short = damaged("c")
    weights = cut_short.with_suffix(".bin").read_bytes()
    cut_short.with_suffix(".bin").write_bytes(weights[:-1000])
    cut_graph = damaged("d")
    cut_graph.write_bytes(cut_graph.read_bytes()[:-2000])
    foreign = changed(converted.parent, tmp_path / "e", vocab_size=500)
    broken_end = changed(converted.parent, tmp_path / "f")
    (broken_end / "generation_config.json").write_text("{")
    for path, said in (
        (tmp_path / "nothing.xml", "no nothing.xml"),
        (tmp_path, "no openvino_model.xml"),
        (no_config, "config.json: the file cannot be read"),
        (no_weights, "openvino_model.bin is missing"),
        (cut_short, "cut short or of another model"),
        (cut_graph, "no XML"),
        (foreign, "says 500 tokens, and the model has 320 logits"),
        (broken_end, "this is no JSON"),
    ):
        with pytest.raises(ModelError) as caught:
            load(framework, path)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_graphs_that_are_no_language_models(
    framework: OpenVINO, converted: Path, tmp_path: Path
) -> None:
    from openvino import opset13

    def saved(name: str, input_name: str) -> Path:
        ids = opset13.parameter([-1, -1], np.int64, name=input_name)
        ids.output(0).get_tensor().set_names({input_name})
        rows = opset13.gather(np.ones((320, 4), np.float32), ids, np.int64(0))
        path = changed(converted.parent, tmp_path / name) / converted.name
        openvino.save_model(openvino.Model([rows], [ids], "m"), path)
        return path

    with pytest.raises(ModelError, match="has the inputs pixels"):
        load(framework, saved("image", "pixels"))
    with pytest.raises(ModelError, match="keeps no cache of its own"):
        load(framework, saved("stateless", "input_ids"))


def test_contexts_and_tokens_that_are_refused(
    framework: OpenVINO, converted: Path, model: OpenVINOLanguageModel
) -> None:
    with pytest.raises(ModelError, match=r"context of 129 tokens.*allowed: 1 to 128"):
        load(framework, converted, 129)
    with pytest.raises(ModelError, match="context of 0 tokens"):
        load(framework, converted, 0)
    long = np.zeros(CONTEXT + 1, np.int32)
    for use in (model.logits, model.bind_prefill, model.bind_decode, model.bind_first_token):
        with pytest.raises(ModelError, match="129 tokens do not fit"):
            use(long)
    with pytest.raises(ModelError, match="120 tokens and 9 more do not fit"):
        model.generate(long[:120], 9)
    for wrong, said in (
        (np.array([5, 320]), "token id 320 is none of the model's; allowed: 0 to 319"),
        (np.array([-1]), "token id -1"),
        (np.zeros(0, np.int32), "one or more ids"),
        (np.zeros((2, 2), np.int32), "one or more ids"),
    ):
        with pytest.raises(ModelError, match=said):
            model.logits(wrong)


def test_devices_and_hints(framework: OpenVINO, converted: Path) -> None:
    with pytest.raises(UserError, match='no device "XPU"'):
        framework.load_language_model(converted, RuntimeOptions(device="XPU"), 8)
    with pytest.raises(UserError, match=r"KV_CACHE_PRECISON.*Did you mean"):
        load(framework, converted, hints={"KV_CACHE_PRECISON": "f32"})
    with pytest.raises(UserError, match='memory_mapping is "maybe"; allowed: on, off'):
        load(framework, converted, hints={MEMORY_MAPPING: "maybe"})
    mapped, read = (
        load(framework, converted, hints={MEMORY_MAPPING: each}) for each in ("on", "off")
    )
    np.testing.assert_array_equal(mapped.logits(TOKENS), read.logits(TOKENS))


def test_a_worker_lives_on_after_a_refusal(
    drive: Callable[..., Any], converted: Path, tmp_path: Path
) -> None:
    worker = drive(OPENVINO).worker
    np.save(tmp_path / "ids.npy", TOKENS[None])
    arguments: dict[str, Any] = {"handle": "m", "runtime": ONE_THREAD, "context_tokens": CONTEXT}
    with pytest.raises(ModelError, match=r"no openvino_model\.xml"):
        worker.request("load_language_model", time_limit_s=60, path=tmp_path, **arguments)
    loaded = worker.request("load_language_model", time_limit_s=60, path=converted, **arguments)
    assert loaded["kv_cache_bytes"] == 65_536
    scored = worker.request(
        "score",
        time_limit_s=60,
        handle="m",
        ids=tmp_path / "ids.npy",
        block=0,
        exchange="",
        role="alone",
    )
    expected = lm.plain_logits(CONFIG, lm.llama_weights(CONFIG), TOKENS)
    perplexity = np.exp(np.mean(scored["nll"]))
    assert f"{perplexity:.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"


def test_the_null_model(framework: OpenVINO) -> None:
    null = framework.load_null_language_model(ONE_THREAD)
    few = np.zeros(8, np.int32)
    null.bind_prefill(few)()
    null.bind_decode(few)()
    assert null.logits(few).shape == (8, null.vocabulary) == (8, 64)
    assert null.kv_cache_bytes == 2 * 64 * 4 * null.context_tokens
    null.close()


def test_openvino_genai_generates_the_same(model: OpenVINOLanguageModel, converted: Path) -> None:
    if importlib.util.find_spec("openvino_genai") is None:
        pytest.skip("run: pip install openvino-genai")
    openvino_genai: Any = importlib.import_module("openvino_genai")
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    pipeline = openvino_genai.LLMPipeline(
        str(converted.parent), "CPU", ATTENTION_BACKEND="SDPA", **exact
    )
    ids = TOKENS[:5].astype(np.int64)[None]
    inputs = openvino_genai.TokenizedInputs(
        openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
    )
    result = pipeline.generate(inputs, max_new_tokens=12, do_sample=False, ignore_eos=True)
    assert result.tokens == [model.generate(TOKENS[:5], 12).tolist()]


def test_the_measured_process_stays_light(converted: Path, tmp_path: Path) -> None:
    """Loading and running brings neither NNCF nor transformers, and prints nothing."""
    code = f"""
import sys
from pathlib import Path
import numpy as np
from pytest_edgeai.optimize.frameworks.openvino import OpenVINO
from pytest_edgeai.records import RuntimeOptions
framework, runtime = OpenVINO(), RuntimeOptions(threads=1)
null = framework.load_null_language_model(runtime)
tokens = np.zeros(8, np.int32)
null.bind_decode(tokens)()
before = set(sys.modules)
loaded = framework.load_language_model(Path({str(converted)!r}), runtime, 64)
loaded.bind_decode(tokens)()
heavy = {{"nncf", "transformers", "tokenizers", "torch", "gguf", "onnx"}} & set(sys.modules)
assert not heavy, heavy
assert set(sys.modules) == before, set(sys.modules) - before
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
