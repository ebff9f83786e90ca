"""MLX against NumPy: the CPU build on Linux, Metal on Apple silicon."""

from __future__ import annotations

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
from pytest_edgeai.optimize.frameworks.catalogue import MLX
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.records import Recipe, RuntimeOptions

if any(importlib.util.find_spec(name) is None for name in ("mlx", "mlx_lm")):
    pytest.skip(f"run: {MLX.install}", allow_module_level=True)

import mlx.core as mx

from pytest_edgeai.optimize.frameworks.mlx import Mlx, MlxLanguageModel

Ids: TypeAlias = NDArray[np.int32]
Make: TypeAlias = Callable[..., OptimizeResult]

CONTEXT = 128
ON_CPU = mx.default_device() == mx.Device(mx.cpu)
# Rows of 64 and 128 elements, so that every layer can be quantized in groups of 64.
CONFIG = lm.llama_config(intermediate_size=128, num_hidden_layers=3)
TOKENS = lm.random_tokens(CONFIG, 100)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def mlx() -> Mlx:
    return Mlx()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in float32 with a tokenizer, whose files no test changes."""
    return lm.write_huggingface(tmp_path_factory.mktemp("mlx") / "llama", CONFIG)


@pytest.fixture(scope="module")
def model(mlx: Mlx, directory: Path) -> MlxLanguageModel:
    return load(mlx, directory)


@pytest.fixture
def make(mlx: Mlx, tmp_path: Path) -> Make:
    """Return a function that makes an artifact, by default from the given directory."""

    def optimize(source: Path, scheme: str, **options: Any) -> OptimizeResult:
        output = tmp_path / f"made-{scheme}-{len(list(tmp_path.iterdir()))}"
        output.mkdir()
        recipe = Recipe("mlx", scheme, options)
        request = OptimizeRequest(source, recipe, "language-model", (), None, output)
        fractions: list[float] = []
        result = mlx.optimize(request, lambda what, fraction: fractions.append(fraction))
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        return result

    return optimize


def load(mlx: Mlx, path: Path, context_tokens: int = CONTEXT, **runtime: Any) -> MlxLanguageModel:
    options = RuntimeOptions(**{"device": "AUTO", **runtime})
    return mlx.load_language_model(path, options, context_tokens)


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def changed(directory: Path, target: Path, **changes: Any) -> Path:
    """Return a copy of a model whose configuration differs; ``None`` takes a key away."""
    shutil.copytree(directory, target)
    config = json.loads((target / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config))
    return target


def tensors(path: Path) -> dict[str, Any]:
    """Return the stored arrays of an artifact."""
    stored: Any = mx.load(str(path / "model.safetensors"))
    return dict(stored)


def dequantized(path: Path) -> lm.Weights:
    """Return the weights of an artifact: ``scale x integer + bias`` per group, bits unpacked."""
    config = json.loads((path / "config.json").read_text())["quantization"]
    stored = {name: np.array(array) for name, array in tensors(path).items()}
    weights: lm.Weights = {}
    for name, array in stored.items():
        module = name.removesuffix(".weight")
        if f"{module}.scales" not in stored:
            if not name.endswith((".scales", ".biases")):
                weights[name] = array
            continue
        bits = config.get(module, config)["bits"]
        stream = np.unpackbits(array.view(np.uint8), axis=1, bitorder="little")
        digits = stream.reshape(len(array), -1, bits).astype(np.int64)
        integers = (digits << np.arange(bits)).sum(axis=2)
        groups = integers.reshape(len(array), -1, config["group_size"])
        scales, biases = stored[f"{module}.scales"], stored[f"{module}.biases"]
        values = groups * scales[:, :, None] + biases[:, :, None]
        weights[name] = values.reshape(integers.shape).astype(np.float32)
    return weights


@pytest.mark.parametrize(
    ("changes", "shards"),
    [
        ({}, 1),
        ({}, 3),
        ({"tie_word_embeddings": True}, 1),
        ({"attention_bias": True, "mlp_bias": True}, 1),
        ({"rope_scaling": LLAMA3_ROPE, "num_key_value_heads": 4}, 1),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, 1),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, 1),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 16}, 1),
    ],
    ids=["plain", "shards", "tied", "biases", "rope", "mistral", "qwen2", "qwen3"],
)
def test_logits_and_perplexity(
    mlx: Mlx, tmp_path: Path, changes: Mapping[str, Any], shards: int
) -> None:
    config = lm.llama_config(**changes)
    path = lm.write_huggingface(tmp_path / "model", config, shards=shards)
    expected = lm.plain_logits(config, lm.llama_weights(config), TOKENS)
    loaded = load(mlx, path)
    found = loaded.logits(TOKENS)
    assert found.dtype == np.float32
    assert found.shape == (100, loaded.vocabulary) == (100, 320)
    assert relative_error(found, expected) < (1e-5 if ON_CPU else 1e-2)
    perplexity = lm.perplexity(found, TOKENS)
    assert f"{perplexity:.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"
    np.testing.assert_array_equal(loaded.logits(TOKENS), found, "the same tokens again")
    found[:] = 0
    assert loaded.logits(TOKENS).any(), "the returned array is the caller's"


def test_weights_are_in_memory_after_loading(mlx: Mlx, directory: Path) -> None:
    before = mx.get_active_memory()
    loaded = load(mlx, directory)
    weights = 4 * read_structure(directory).parameters
    assert weights <= mx.get_active_memory() - before < 1.1 * weights
    loaded.close()
    assert mx.get_active_memory() - before < 0.1 * weights


def test_what_it_says_about_itself(model: MlxLanguageModel) -> None:
    facts = model.execution()
    # Seven matrices in each of three blocks, the embedding and the output layer.
    assert facts.executed_precisions == {"float32": 23}
    assert facts.executed_devices == ("CPU" if ON_CPU else "GPU",)
    assert model.context_tokens == CONTEXT
    # Keys and values of 3 blocks, 2 heads of 16 each, float32.
    assert model.kv_cache_bytes == 2 * 3 * 2 * 16 * 4 * CONTEXT


def test_bound_calls_repeat(model: MlxLanguageModel) -> None:
    """Each call of one kind does the same work at the same depth, whatever runs in between."""
    expected = model.logits(TOKENS)[-1]
    calls = [bind(TOKENS) for bind in (model.bind_prefill, model.bind_decode)]
    first_token = model.bind_first_token(TOKENS)
    for _ in range(3):
        for call in calls:
            logits = np.array(call())
            assert relative_error(logits, expected) < (1e-5 if ON_CPU else 1e-2)
        assert first_token() == expected.argmax()
        model.generate(TOKENS[:9], 3)


@pytest.mark.parametrize("step", [7, 2048])
def test_a_long_prompt_is_fed_in_steps(
    model: MlxLanguageModel, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_edgeai.optimize.frameworks.mlx.PREFILL_STEP", step)
    logits = np.array(model.bind_prefill(TOKENS)())
    assert relative_error(logits, model.logits(TOKENS)[-1]) < (1e-5 if ON_CPU else 1e-2)


def test_greedy_generation(model: MlxLanguageModel) -> None:
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
    mlx: Mlx, model: MlxLanguageModel, directory: Path, tmp_path: Path, place: str
) -> None:
    free = model.generate(TOKENS[:5], 8)
    end = int(free[4])
    stop = list(free).index(end) + 1
    if place == "config.json":
        path = changed(directory, tmp_path / "m", eos_token_id=[319, end])
    else:
        path = changed(directory, tmp_path / "m", eos_token_id=int(free[0]))
        (path / place).write_text(json.dumps({"eos_token_id": end}))
    np.testing.assert_array_equal(load(mlx, path).generate(TOKENS[:5], 8), free[:stop])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_convert_keeps_the_precision(mlx: Mlx, make: Make, tmp_path: Path, dtype: str) -> None:
    source = lm.write_huggingface(tmp_path / "model", CONFIG, dtype=dtype)
    made = make(source, "convert")
    assert made.path.is_dir()
    assert f"tensors stay {dtype} (30)" in made.log
    structure = read_structure(made.path)
    assert set(structure.weight_elements) == {dtype}
    assert structure.quantization == ""
    converted = load(mlx, made.path)
    assert converted.execution().executed_precisions == {dtype: 23}
    assert converted.kv_cache_bytes == 2 * 3 * 2 * 16 * CONTEXT * (4 if dtype == "float32" else 2)
    found = converted.logits(TOKENS)
    np.testing.assert_array_equal(found, load(mlx, source).logits(TOKENS))
    weights = lm.rounded(lm.llama_weights(CONFIG), dtype)
    limit = {"float32": 1e-5 if ON_CPU else 1e-2, "float16": 1e-2, "bfloat16": 5e-2}[dtype]
    assert relative_error(found, lm.plain_logits(CONFIG, weights, TOKENS)) < limit


@pytest.mark.parametrize(
    ("scheme", "label", "bits"),
    [
        ("int4-g64", "mlx-int4-g64", {"int4": 23}),
        ("int8-g64", "mlx-int8-g64", {"int8": 23}),
        # mixed_4_6 gives 6 bits to values and down projections of the last block of three, and
        # to the output layer.
        ("mixed-4-6", "mlx-int4-g64", {"int4": 20, "int6": 3}),
    ],
)
def test_quantized(
    mlx: Mlx, make: Make, directory: Path, scheme: str, label: str, bits: Mapping[str, int]
) -> None:
    made = make(directory, scheme)
    structure = read_structure(made.path)
    assert structure.quantization == label
    packed = {name: n for name, n in structure.weight_elements.items() if name != "float32"}
    assert set(packed) == {f"u{name}" for name in bits}
    assert sum(packed.values()) / structure.parameters > 0.95
    quantized = load(mlx, made.path)
    assert quantized.execution().executed_precisions == bits
    found = quantized.logits(TOKENS)
    # Exactly the model that the stored integers describe ...
    stored = dequantized(made.path)
    expected = lm.plain_logits(CONFIG, stored, TOKENS)
    assert relative_error(found, expected) < (1e-5 if ON_CPU else 1e-2)
    assert f"{lm.perplexity(found, TOKENS):.4g}" == f"{lm.perplexity(expected, TOKENS):.4g}"
    # ... whose weights are those of the source, rounded to a step of each group's range.
    for name, original in lm.llama_weights(CONFIG).items():
        error = relative_error(stored[name], original)
        if original.ndim == 1:
            assert error == 0
        else:
            assert (0.001 < error < 0.01) if "int8" in bits else (0.01 < error < 0.12)


def test_tokenizer_and_settings_come_along(
    mlx: Mlx, make: Make, directory: Path, tmp_path: Path
) -> None:
    source = changed(directory, tmp_path / "m", torch_dtype="float32")
    (source / "generation_config.json").write_text('{"eos_token_id": 7}')
    made = make(source, "int4-g64")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (made.path / name).read_bytes() == (source / name).read_bytes()
    text = "the model that it replaces"
    ids = mlx.tokenize(made.path, text)
    np.testing.assert_array_equal(ids, mlx.tokenize(source, text))
    assert 0 < len(ids) < len(text)


def test_the_type_of_what_is_not_quantized(mlx: Mlx, make: Make, tmp_path: Path) -> None:
    source = lm.write_huggingface(tmp_path / "model", CONFIG, dtype="bfloat16")

    def scales(made: OptimizeResult) -> set[str]:
        stored = tensors(made.path).values()
        return {str(array.dtype).rpartition(".")[2] for array in stored} - {"uint32"}

    default = make(source, "int8-g64")
    assert scales(default) == {"float32" if ON_CPU else "bfloat16"}
    assert json.loads((default.path / "config.json").read_text())["dtype"] in scales(default)
    assert scales(make(source, "int8-g64", dtype="source")) == {"bfloat16"}
    assert scales(make(source, "convert", dtype="float16")) == {"float16"}


def test_rows_that_no_group_fits_stay_and_are_reported(
    mlx: Mlx, make: Make, tmp_path: Path
) -> None:
    config = lm.llama_config(intermediate_size=96)
    made = make(lm.write_huggingface(tmp_path / "model", config), "int4-g64")
    assert "not quantized: model.layers.0.mlp.down_proj, of shape [64, 96]" in made.log
    precisions = load(mlx, made.path).execution().executed_precisions
    assert precisions == {"int4": 14, "float32": 2}


def test_recipes_that_are_refused(make: Make, directory: Path, tmp_path: Path) -> None:
    odd = lm.llama_config(hidden_size=48, intermediate_size=80)
    with pytest.raises(ModelError, match="no layer has rows of a multiple of 64"):
        make(lm.write_huggingface(tmp_path / "odd", odd), "int4-g64")
    with pytest.raises(ModelError, match=r'no scheme "int4-g46".*Did you mean "int4-g64"'):
        make(directory, "int4-g46")
    with pytest.raises(ModelError, match="option \"dtype\" is 'int8'; allowed: source, float32"):
        make(directory, "convert", dtype="int8")
    with pytest.raises(ModelError, match='unknown option "bits"'):
        make(directory, "int4-g64", bits=3)
    quantized = make(directory, "int4-g64").path
    with pytest.raises(ModelError, match=r"quantized already \(mlx-int4-g64\)"):
        make(quantized, "int8-g64")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "lama"}, 'no model_type "lama". Did you mean "llama"?'),
        ({"model_type": "../llama"}, 'no model_type "../llama"'),
        ({"model_type": "cache"}, 'no model_type "cache"'),
        ({"vocab_size": 500}, "vocab_size is 500"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4"),
        ({"intermediate_size": 192}, "intermediate_size is 192"),
        ({"num_attention_heads": 8, "head_dim": 16}, "num_attention_heads x head size is 128"),
        ({"rms_norm_eps": None}, "needs the keys rms_norm_eps"),
        ({"rms_norm_eps": "small"}, "mlx-lm cannot build the model"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "spiral"),
        ({"model_type": "qwen3"}, "needs the keys head_dim"),
        ({"model_type": "qwen3", "head_dim": 16}, "q_norm"),
        ({"quantization": {"bits": 4}}, "mlx-lm cannot build the model"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized already"),
        ({"model_file": "own.py"}, "code of its own (own.py)"),
    ],
)
def test_configurations_that_lie(
    mlx: Mlx, directory: Path, tmp_path: Path, changes: Mapping[str, Any], said: str
) -> None:
    path = changed(directory, tmp_path / "m", **changes)
    with pytest.raises(ModelError) as caught:
        load(mlx, path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_incomplete_and_damaged_directories(mlx: Mlx, directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load(mlx, tmp_path / "nothing")
    sharded = lm.write_huggingface(tmp_path / "sharded", CONFIG, shards=3)
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"1 of 3 weight files are missing.*00002-of-00003"):
        load(mlx, sharded)
    short = changed(directory, tmp_path / "short")
    weights = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ModelError, match="cut short"):
        load(mlx, short)
    silent = lm.write_huggingface(tmp_path / "silent", CONFIG, tokenizer=False)
    with pytest.raises(ModelError, match="no tokenizer"):
        mlx.tokenize(silent, "text")
    assert load(mlx, silent).vocabulary == 320, "token ids need no tokenizer"


def test_contexts_and_tokens_that_are_refused(
    mlx: Mlx, directory: Path, model: MlxLanguageModel
) -> None:
    with pytest.raises(ModelError, match=r"context of 129 tokens.*allowed: 1 to 128"):
        load(mlx, directory, 129)
    with pytest.raises(ModelError, match="context of 0 tokens"):
        load(mlx, directory, 0)
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
    assert model.logits(long[:CONTEXT]).shape == (CONTEXT, 320)


def test_devices_and_hints(mlx: Mlx, directory: Path) -> None:
    assert load(mlx, directory, device="CPU").execution().executed_devices == ("CPU",)
    with pytest.raises(UserError, match='no device "CPUs"; allowed: AUTO, CPU'):
        load(mlx, directory, device="CPUs")
    if ON_CPU:
        with pytest.raises(UserError, match='no device "GPU"; allowed: AUTO, CPU'):
            load(mlx, directory, device="GPU")
    with pytest.raises(UserError, match=r"memory_maping.*Did you mean"):
        load(mlx, directory, hints={"memory_maping": "on"})
    with pytest.raises(ModelError, match="cannot map them"):
        load(mlx, directory, hints={MEMORY_MAPPING: "on"})
    assert load(mlx, directory, hints={MEMORY_MAPPING: "off"}).vocabulary == 320


def test_recurrent_state_cannot_be_taken_back(mlx: Mlx, tmp_path: Path) -> None:
    """A Mamba scores and generates; decoding at one depth is refused, and so is its cache size."""
    size, inner, states, rank, kernel = 64, 128, 8, 4, 4
    config = {
        "architectures": ["MambaForCausalLM"],
        "model_type": "mamba",
        "vocab_size": 320,
        "hidden_size": size,
        "intermediate_size": inner,
        "state_size": states,
        "num_hidden_layers": 1,
        "conv_kernel": kernel,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": rank,
    }
    shapes = {
        "embeddings.weight": (320, size),
        "norm_f.weight": (size,),
        "layers.0.norm.weight": (size,),
        "layers.0.mixer.A_log": (inner, states),
        "layers.0.mixer.D": (inner,),
        "layers.0.mixer.conv1d.weight": (inner, 1, kernel),
        "layers.0.mixer.conv1d.bias": (inner,),
        "layers.0.mixer.in_proj.weight": (2 * inner, size),
        "layers.0.mixer.x_proj.weight": (rank + 2 * states, inner),
        "layers.0.mixer.dt_proj.weight": (inner, rank),
        "layers.0.mixer.dt_proj.bias": (inner,),
        "layers.0.mixer.out_proj.weight": (size, inner),
    }
    rng = np.random.default_rng(3)
    weights = {
        f"backbone.{name}": rng.normal(size=shape, scale=0.1).astype(np.float32)
        for name, shape in shapes.items()
    }
    path = lm.write_huggingface(tmp_path / "mamba", config, weights=weights, tokenizer=False)
    loaded = load(mlx, path)
    assert loaded.kv_cache_bytes is None
    assert loaded.generate(TOKENS[:9], 2)[0] == loaded.logits(TOKENS[:9])[-1].argmax()
    with pytest.raises(ModelError, match="cannot take a token back"):
        loaded.bind_decode(TOKENS[:9])


def test_the_measured_process_stays_light(directory: Path, tmp_path: Path) -> None:
    """Loading and running brings neither transformers nor compiled files, and prints nothing."""
    code = f"""
import sys
from pathlib import Path
import numpy as np
from pytest_edgeai.optimize.frameworks.mlx import Mlx
from pytest_edgeai.records import RuntimeOptions
mlx, runtime = Mlx(), RuntimeOptions(device="AUTO")
null = mlx.load_null_language_model(runtime)
tokens = np.zeros(8, np.int32)
assert null.logits(tokens).shape == (8, null.vocabulary)
null.bind_decode(tokens)()
before = len(sys.modules)
loaded = mlx.load_language_model(Path({str(directory)!r}), runtime, 64)
loaded.bind_decode(tokens)()
heavy = {{"transformers", "huggingface_hub", "tokenizers", "torch"}} & set(sys.modules)
assert not heavy, heavy
assert len(sys.modules) == before, "the null model has imported what a model needs"
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


def test_the_flow_in_workers(
    framework_worker: Callable[..., Any], directory: Path, tmp_path: Path
) -> None:
    """Made, scored against its baseline and measured, each request to a process of its own."""
    np.save(tmp_path / "ids.npy", TOKENS[None])
    runtime = RuntimeOptions()

    def request(worker: Any, operation: str, **arguments: Any) -> Any:
        return worker.request(operation, time_limit_s=120, **arguments)

    def ready(worker: Any, path: Path | str) -> Any:
        at = {"handle": "m", "path": path, "runtime": runtime, "context_tokens": CONTEXT}
        return request(worker, "load_language_model", **at)

    def score(worker: Any, role: str) -> Any:
        at = {"handle": "m", "ids": tmp_path / "ids.npy", "block": 0}
        return request(worker, "score", **at, exchange=tmp_path / "logits", role=role)

    baseline, candidate = framework_worker(MLX), framework_worker(MLX)
    made = request(
        candidate,
        "optimize",
        source=directory,
        recipe=Recipe("mlx", "int8-g64"),
        architecture="language-model",
        inputs=[],
        calibration=None,
        output=tmp_path / "made",
    )
    assert ready(baseline, directory)["vocabulary"] == 320
    assert ready(candidate, made["path"])["vocabulary"] == 320
    losses = score(baseline, "reference")["nll"]
    expected = lm.plain_logits(CONFIG, lm.llama_weights(CONFIG), TOKENS)
    assert np.exp(np.mean(losses)) == pytest.approx(lm.perplexity(expected, TOKENS), rel=1e-4)
    compared = score(candidate, "comparison")
    assert 0 < np.mean(compared["divergence"]) < 0.1
    timed = {"handle": "m", "ids": tmp_path / "ids.npy", "block": 0, "tokens": 50}
    for phase in ("prefill", "first_token", "decode"):
        request(candidate, "bind_phase", phase=phase, **timed)
        assert min(request(candidate, "time_calls", handle="m", calls=3)["wall_ns"]) > 0
