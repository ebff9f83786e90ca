"""llama.cpp for real: converted models against NumPy, quantized ones against their claims."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import (
    CONFIG,
    llama_config,
    llama_weights,
    perplexity,
    plain_logits,
    random_tokens,
    rounded,
    write_gguf,
    write_huggingface,
    write_tokenizer,
)

from pytest_edgeai.assess.gguf_container import read_container
from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP
from pytest_edgeai.records import Recipe, RuntimeOptions

INSTALL = 'needs llama.cpp: CMAKE_ARGS="-DLLAVA_BUILD=OFF" pip install llama-cpp-python gguf'
pytest.importorskip("llama_cpp", reason=INSTALL)
gguf = pytest.importorskip("gguf", reason=INSTALL)

from pytest_edgeai.optimize.frameworks.llamacpp import LlamaCpp  # noqa: E402
from pytest_edgeai.optimize.frameworks.llamacpp_api import LOG  # noqa: E402
from pytest_edgeai.optimize.frameworks.llamacpp_model import LlamaCppModel  # noqa: E402

CACHE = re.compile(r"llama_kv_cache: size =\s+([\d.]+) MiB \(\s*256 cells")

ONE_THREAD = RuntimeOptions(threads=1)
# Rows of 256 elements and more: what K-quants take.
WIDE = llama_config(hidden_size=256, intermediate_size=512)

Start = Callable[..., Any]
Load = Callable[..., LlamaCppModel]


@pytest.fixture(scope="module")
def framework() -> LlamaCpp:
    return LlamaCpp()


@pytest.fixture
def load(framework: LlamaCpp, request: pytest.FixtureRequest) -> Load:
    """Return a function that loads a file, released at the end of the test."""

    def make(path: Path, context: int = 128, **runtime: Any) -> LlamaCppModel:
        options = RuntimeOptions(**{"threads": 1, **runtime})
        model = framework.load_language_model(path, options, context)
        request.addfinalizer(model.close)
        return model

    return make


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory whose rows K-quants take."""
    return write_huggingface(tmp_path_factory.mktemp("wide") / "hf", WIDE)


@pytest.fixture(scope="module")
def wide_gguf(framework: LlamaCpp, wide: Path) -> Path:
    """The same as a GGUF file."""
    return optimize(framework, wide, "convert", wide.parent / "converted").path


def optimize(
    framework: LlamaCpp, source: Path, scheme: str, output: Path, **options: Any
) -> OptimizeResult:
    output.mkdir()
    steps: list[float] = []
    request = OptimizeRequest(
        source=source,
        recipe=Recipe("llamacpp", scheme, options),
        architecture="language-model",
        inputs=(),
        calibration=None,
        output=output,
    )
    result = framework.optimize(request, lambda _, fraction: steps.append(fraction))
    assert steps == sorted(steps)
    assert steps[-1] <= 1
    assert result.path in output.iterdir()
    assert not list(output.parent.glob("full-*"))
    return result


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "llama": ({}, "float32"),
    "llama-half": ({}, "float16"),
    "llama-bfloat16": ({}, "bfloat16"),
    "llama-tied": ({"tie_word_embeddings": True}, "float32"),
    "llama-biases": ({"attention_bias": True, "mlp_bias": True}, "float32"),
    "llama-head-size": ({"head_dim": 32}, "float32"),
    "llama-all-heads": ({"num_key_value_heads": 4}, "float32"),
    "llama-linear": ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "float32"),
    "llama-llama3": ({"rope_scaling": LLAMA3_ROPE, "rope_theta": 500.0}, "float32"),
    "mistral": ({"architectures": ["MistralForCausalLM"], "model_type": "mistral"}, "float32"),
    "qwen2": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        },
        "float32",
    ),
    "qwen3": (
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
        "float32",
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_converted_models_compute_what_numpy_computes(
    framework: LlamaCpp, load: Load, tmp_path: Path, name: str
) -> None:
    changes, dtype = FAMILIES[name]
    config = llama_config(**changes)
    weights = llama_weights(config, seed=3)
    source = write_huggingface(tmp_path / "hf", config, weights=weights, dtype=dtype)
    result = optimize(framework, source, "convert", tmp_path / "made")
    tokens = random_tokens(config, 100)
    found = load(result.path).logits(tokens)
    expected = plain_logits(config, rounded(weights, dtype), tokens)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    # llama.cpp rounds keys and values to float16, and activations to the type of the weights.
    ratio, most = {
        "float32": (1e-4, 0.005),
        "float16": (1e-4, 0.01),
        "bfloat16": (2e-3, 0.05),
    }[dtype]
    assert perplexity(found, tokens) == pytest.approx(perplexity(expected, tokens), rel=ratio)
    assert float(np.max(np.abs(found - expected))) < most * float(np.std(expected))
    assert dtype in result.log[0]


def test_logits_are_the_same_bits_however_often_and_with_several_threads(
    load: Load, wide_gguf: Path
) -> None:
    tokens = random_tokens(WIDE, 96)
    model = load(wide_gguf)
    first = model.logits(tokens)
    model.bind_prefill(tokens[:40])()
    model.logits(tokens[::-1].copy())
    np.testing.assert_array_equal(model.logits(tokens), first)
    np.testing.assert_array_equal(load(wide_gguf, threads=2).logits(tokens), first)
    first[:] = 0  # belongs to the caller
    assert np.any(model.logits(tokens))


def test_every_phase_computes_at_its_depth(load: Load, wide_gguf: Path) -> None:
    tokens = random_tokens(WIDE, 60)
    model = load(wide_gguf)
    expected = model.logits(tokens)
    likeliest = int(expected[-1].argmax())
    first_token = model.bind_first_token(tokens)
    assert [first_token() for _ in range(3)] == [likeliest] * 3
    prefill = model.bind_prefill(tokens)
    decode = model.bind_decode(tokens)
    for call in (decode, decode, prefill, decode, prefill):
        call()
        # The token-by-token path differs from the batched one by rounding alone.
        np.testing.assert_allclose(last_logits(model), expected[-1], atol=0.02)
    single = model.bind_decode(tokens[:1])
    for _ in range(2):
        single()
        np.testing.assert_allclose(last_logits(model), expected[0], atol=0.02)


def last_logits(model: LlamaCppModel) -> Any:
    import llama_cpp

    pointer = llama_cpp.llama_get_logits_ith(model._context, -1)
    return np.ctypeslib.as_array(pointer, (model.vocabulary,)).copy()


def test_llamacpp_counts_the_same_passes(load: Load, wide_gguf: Path) -> None:
    tokens = random_tokens(WIDE, 40)
    model = load(wide_gguf)
    decode, prefill = model.bind_decode(tokens), model.bind_prefill(tokens)
    model.reset_counters()
    for call in (prefill, decode, decode, decode):
        call()
    counted = model.counters()
    # The first decoding step fills the cache again.
    assert (counted.prefill_tokens, counted.decode_tokens) == (40 + 39, 3)
    assert min(counted.prefill_ns, counted.decode_ns) > 0


def test_decoding_is_the_same_bits_at_every_call(load: Load, wide_gguf: Path) -> None:
    tokens = random_tokens(WIDE, 60)
    model = load(wide_gguf)
    decode = model.bind_decode(tokens)
    decode()
    first = last_logits(model)
    for _ in range(5):
        decode()
    np.testing.assert_array_equal(last_logits(model), first)


def test_generating_is_greedy_and_repeatable(load: Load, wide_gguf: Path) -> None:
    tokens = random_tokens(WIDE, 20)
    model = load(wide_gguf)
    made = model.generate(tokens, 30)
    np.testing.assert_array_equal(model.generate(tokens, 30), made)
    assert made.dtype == np.int32
    so_far = np.concatenate([tokens, made])
    logits = model.logits(so_far)[len(tokens) - 1 : -1]
    top = logits.max(axis=-1)
    np.testing.assert_allclose(logits[np.arange(len(made)), made], top, atol=0.02)
    assert len(model.generate(tokens, 0)) == 0


def test_generating_ends_at_the_end_of_text(
    framework: LlamaCpp, load: Load, tmp_path: Path
) -> None:
    weights = llama_weights(CONFIG)
    weights["lm_head.weight"][:] = 0
    source = write_huggingface(tmp_path / "hf", weights=weights)
    # All logits are equal, so the first token is picked: it ends a text here.
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((source / name).read_text(encoding="utf-8"))
        content |= {"eos_token_id": 0} if name == "config.json" else {"eos_token": "<s>"}
        (source / name).write_text(json.dumps(content), encoding="utf-8")
    model = load(optimize(framework, source, "convert", tmp_path / "made").path)
    assert model.generate(random_tokens(CONFIG, 8), 50).tolist() == [0]


@pytest.mark.parametrize(
    ("scheme", "main", "others"),
    [
        ("q4_k_m", "q4_k", {"q6_k"}),
        ("q8_0", "q8_0", set()),
        ("q4_0", "q4_0", {"q6_k"}),
        ("q2_k", "q2_k", {"q3_k", "q6_k"}),
    ],
)
def test_quantizing(
    framework: LlamaCpp,
    load: Load,
    wide: Path,
    wide_gguf: Path,
    tmp_path: Path,
    scheme: str,
    main: str,
    others: set[str],
) -> None:
    made = optimize(framework, wide, scheme, tmp_path / "from-directory")
    types = {
        tensor.type.name for tensor in read_container(made.path).tensors if len(tensor.dims) > 1
    }
    assert types == {main, *others}
    assert list(made.path.parent.iterdir()) == [made.path]
    assert made.log[0].startswith("converted to GGUF, architecture llama")
    assert any(line.startswith(f"{scheme}: ") and main in line for line in made.log)
    assert not any("fell back" in line for line in made.log)
    again = optimize(framework, wide_gguf, scheme, tmp_path / "from-gguf")
    assert again.path.read_bytes() == made.path.read_bytes()
    assert made.path.stat().st_size < wide_gguf.stat().st_size / 2
    tokens = random_tokens(WIDE, 64)
    exact, rough = load(wide_gguf).logits(tokens), load(made.path).logits(tokens)
    error = float(np.linalg.norm(rough - exact) / np.linalg.norm(exact))
    limits = {"q8_0": (0.0, 0.05), "q2_k": (0.1, 0.9)}
    low, high = limits.get(scheme, (0.02, 0.4))
    assert low < error < high
    executed = load(made.path).execution()
    assert executed.executed_devices == ("CPU",)
    assert executed.executed_precisions[main] > 0
    assert executed.executed_precisions["float32"] == 5  # the norms


def test_tensors_that_fall_back_are_named(framework: LlamaCpp, tmp_path: Path) -> None:
    source = write_huggingface(tmp_path / "hf")  # rows of 64 and 96 elements
    result = optimize(framework, source, "q4_k_m", tmp_path / "made")
    fallen = [line for line in result.log if "fell back" in line]
    named = " ".join(fallen)
    for tensor in read_container(result.path).tensors:
        if len(tensor.dims) > 1:
            assert tensor.name in named
    assert "rows of 64 elements are no multiple of 256" in named
    assert "rows of 96 elements are no multiple of 256" in named
    assert any("fell back to q5_0" in line for line in fallen)


def test_a_gguf_file_is_copied_as_it_is(
    framework: LlamaCpp, wide_gguf: Path, tmp_path: Path
) -> None:
    result = optimize(framework, wide_gguf, "convert", tmp_path / "copy")
    assert result.path.read_bytes() == wide_gguf.read_bytes()
    assert result.log == ("copied as it is: float32",)


def test_a_model_of_several_files(framework: LlamaCpp, load: Load, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"parameters": 1_300_000, "hidden": 256, "vocabulary": 300}
    whole = write_gguf(tmp_path / "whole.gguf", **sizes)
    first = write_gguf(tmp_path / "parts.gguf", most_tensors=5, **sizes)
    copied = optimize(framework, first, "convert", tmp_path / "copy")
    assert copied.path.name == first.name
    assert len(list(copied.path.parent.iterdir())) > 1
    tokens = random_tokens({"vocab_size": 300}, 30)
    expected = load(whole).logits(tokens)
    np.testing.assert_array_equal(load(copied.path).logits(tokens), expected)
    joined = optimize(framework, first, "q8_0", tmp_path / "joined").path
    alone = optimize(framework, whole, "q8_0", tmp_path / "alone").path
    assert list(joined.parent.iterdir()) == [joined]
    np.testing.assert_array_equal(load(joined).logits(tokens), load(alone).logits(tokens))


def test_quantized_weights_are_quantized_again_on_demand_only(
    framework: LlamaCpp, wide_gguf: Path, tmp_path: Path
) -> None:
    eight = optimize(framework, wide_gguf, "q8_0", tmp_path / "eight").path
    (tmp_path / "refused").mkdir()
    with pytest.raises(ModelError, match=r"quantized already \(q8_0\).*allow_requantize"):
        optimize(framework, eight, "q4_0", tmp_path / "refused-too")
    made = optimize(framework, eight, "q4_0", tmp_path / "four", allow_requantize=True)
    assert "q4_0" in made.log[-1]
    pure = optimize(framework, wide_gguf, "q4_0", tmp_path / "pure", pure=True)
    kinds = {t.type.name for t in read_container(pure.path).tensors if len(t.dims) > 1}
    assert kinds == {"q4_0"}


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("q4_k", {}, r'no scheme "q4_k".*Did you mean "q4_k_m"'),
        ("q4_0", {"pure": 1}, 'option "pure" is 1'),
        ("q4_0", {"threads": 2}, 'unknown option "threads"'),
        ("convert", {"pure": True}, 'unknown option "pure"'),
    ],
)
def test_recipes_that_do_not_exist(
    framework: LlamaCpp,
    wide_gguf: Path,
    tmp_path: Path,
    scheme: str,
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message):
        optimize(framework, wide_gguf, scheme, tmp_path / "made", **options)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "no tokens"),
        ([0, 320], "token id 320 is not in the vocabulary; allowed: 0 to 319"),
        ([-1], "token id -1"),
        ([1 << 40], "token id 1099511627776"),
        ([0] * 129, "a sequence of 129 tokens does not fit; allowed: at most 128"),
    ],
)
def test_tokens_that_cannot_be_computed(
    load: Load, wide_gguf: Path, tokens: list[int], message: str
) -> None:
    model = load(wide_gguf)
    ids: Any = np.array(tokens, np.int64)
    for call in (
        lambda: model.logits(ids),
        lambda: model.bind_prefill(ids),
        lambda: model.bind_decode(ids),
        lambda: model.bind_first_token(ids),
        lambda: model.generate(ids, 1),
    ):
        with pytest.raises(ModelError, match=message):
            call()
    assert np.all(np.isfinite(model.logits(random_tokens(WIDE, 128))))


def test_contexts_and_caches(load: Load, wide_gguf: Path) -> None:
    with pytest.raises(ModelError, match=r"a context of 129 tokens .*allowed: 1 to 128"):
        load(wide_gguf, 129)
    with pytest.raises(ModelError, match="a context of 0 tokens"):
        load(wide_gguf, 0)
    model = load(wide_gguf, 100)
    assert (model.vocabulary, model.context_tokens) == (320, 100)
    # Keys and values, 2 layers, 2 heads of 64, float16.
    assert model.kv_cache_bytes == 2 * 2 * 2 * 64 * 100 * 2
    # llama.cpp rounds the cache up to 256 tokens, and logs its size with two digits.
    logged = next(size for line in LOG.lines() if (size := CACHE.search(line)))
    expected = model.kv_cache_bytes / 100 * 256 / 2**20
    assert float(logged[1]) == pytest.approx(expected, abs=0.005)
    with pytest.raises(ModelError, match="a sequence of 101 tokens"):
        model.generate(random_tokens(WIDE, 100), 2)
    assert len(model.generate(random_tokens(WIDE, 100), 1)) == 1


def test_options_that_do_not_exist(load: Load, wide_gguf: Path) -> None:
    with pytest.raises(UserError, match=r'no device "NPU".*allowed: CPU'):
        load(wide_gguf, device="NPU")
    with pytest.raises(UserError, match=r'no hint "memory_maping".*Did you mean "memory_mapping"'):
        load(wide_gguf, hints={"memory_maping": "on"})
    with pytest.raises(UserError, match="allowed: on, off"):
        load(wide_gguf, hints={"memory_mapping": "yes"})


def test_memory_mapping_changes_no_bit(load: Load, wide_gguf: Path) -> None:
    tokens = random_tokens(WIDE, 32)
    mapped = load(wide_gguf, hints={"memory_mapping": "on"})
    np.testing.assert_array_equal(mapped.logits(tokens), load(wide_gguf).logits(tokens))
    assert any(
        "mmap = true" in line.lower() or "CPU_Mapped" in line for line in mapped._loading_log
    )
    read = load(wide_gguf)
    assert not any("CPU_Mapped" in line for line in read._loading_log)


def test_the_null_model(framework: LlamaCpp) -> None:
    null = framework.load_null_language_model(ONE_THREAD)
    tokens = np.arange(null.vocabulary, dtype=np.int32)[: null.context_tokens]
    assert np.all(np.isfinite(null.logits(tokens)))
    null.bind_decode(tokens)()
    assert null.kv_cache_bytes is not None
    assert null.kv_cache_bytes < 10_000
    null.close()
    null.close()


TEXTS = (
    "The model's 1,234 tokens aren't   many.\n\n  déjà vu\tand so on...",
    "the quantized weights take less memory, the tokens come faster",
    "</s> and <s> are text here",
    "日本語 \U0001f999",
    "",
)


def test_both_tokenizers_agree(framework: LlamaCpp, wide: Path, wide_gguf: Path) -> None:
    pytest.importorskip("tokenizers", reason="run: pip install tokenizers")
    for text in TEXTS:
        ids = framework.tokenize(wide_gguf, text)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, framework.tokenize(wide, text), err_msg=text)
    sentence = framework.tokenize(wide, TEXTS[1])
    assert 0 < len(sentence) < len(TEXTS[1]) / 1.5  # merges were applied
    assert sentence.min() > 1


def test_the_comparison_of_tokenizers_is_reported(framework: LlamaCpp, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="run: pip install tokenizers")
    same = optimize(framework, write_huggingface(tmp_path / "a"), "convert", tmp_path / "made-a")
    assert "the same" in same.log[-1]
    source = write_huggingface(tmp_path / "b")
    unknown = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        ],
    }
    write_tokenizer(source, 320, pre_tokenizer=unknown)
    other = optimize(framework, source, "convert", tmp_path / "made-b")
    assert "split a sample text differently" in other.log[-1]
    assert "none that llama.cpp has a name for" in other.log[-2]


def test_a_sentencepiece_like_tokenizer_agrees(framework: LlamaCpp, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="run: pip install tokenizers")
    from tokenizers import decoders, models, normalizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.ByteFallback()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    text = "the model that measures the measured model is the model of the measure"
    tokenizer.train_from_iterator(["▁".join(text.split())] * 5, trainer)
    source = write_huggingface(tmp_path / "hf", llama_config(vocab_size=400), tokenizer=False)
    content = json.loads(tokenizer.to_str())
    # Trained as special tokens to be in the vocabulary; the bytes are none.
    content["added_tokens"] = content["added_tokens"][:3]
    (source / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    made = optimize(framework, source, "convert", tmp_path / "made")
    assert any(line.startswith("tokenizer: llama") for line in made.log)
    for text in ("the measured model", "the  model\nmeasures", "modèle \U0001f999 the", "t"):
        np.testing.assert_array_equal(
            framework.tokenize(made.path, text), framework.tokenize(source, text), err_msg=text
        )


def test_models_without_a_tokenizer(framework: LlamaCpp, tmp_path: Path) -> None:
    source = write_huggingface(tmp_path / "hf", tokenizer=False)
    made = optimize(framework, source, "convert", tmp_path / "made")
    with pytest.raises(ModelError, match="the file holds no tokenizer"):
        framework.tokenize(made.path, "text")
    with pytest.raises(ModelError, match="the directory holds no tokenizer"):
        framework.tokenize(source, "text")
    (source / "tokenizer.json").write_text('{"model":', encoding="utf-8")
    pytest.importorskip("tokenizers", reason="run: pip install tokenizers")
    with pytest.raises(ModelError, match="the tokenizer is broken"):
        framework.tokenize(source, "text")
    (source / "tokenizer.json").rename(source / "tokenizer.model")
    with pytest.raises(ModelError, match=r"holds tokenizer.model and no tokenizer.json"):
        framework.tokenize(source, "text")


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) - 1000]


def unknown_family(raw: bytes) -> bytes:
    assert raw.count(b"llama") > 5
    return raw.replace(b"llama", b"lllma")


def newer_version(raw: bytes) -> bytes:
    return raw[:4] + struct.pack("<I", 9) + raw[8:]


def without_a_tensor(raw: bytes) -> bytes:
    return raw.replace(b"blk.1.attn_v.weight", b"blk.9.attn_v.weight")


def blocks(count: int) -> Callable[[bytes], bytes]:
    def damage(raw: bytes) -> bytes:
        key = b"llama.block_count" + struct.pack("<I", 4)
        return raw.replace(key + struct.pack("<I", 2), key + struct.pack("<I", count))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cut short"),
        (blocks(0), "llama.block_count is 0; allowed: 1 to 512"),
        (blocks(100_000), "llama.block_count is 100000"),
        (blocks(3), "blk.2.attn_norm.weight' not found"),
        (lambda raw: raw[:100], "cut short|more than the file can hold|declares"),
        (newer_version, "version 9; allowed: 2 and 3"),
        (unknown_family, "unknown model architecture: 'lllma'"),
        (without_a_tensor, r"blk\.1\.attn_v\.weight"),
        (lambda raw: b"GGML" + raw[4:], "no GGUF file"),
        (lambda raw: b"", "empty"),
    ],
)
def test_damaged_files_are_one_line_of_a_worker_that_lives_on(
    framework_worker: Start,
    wide_gguf: Path,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(wide_gguf.read_bytes()))
    worker = framework_worker(LLAMACPP)
    arguments = {"handle": "m", "runtime": RuntimeOptions(threads=1), "context_tokens": 64}
    with pytest.raises(ModelError, match=message) as caught:
        worker.request("load_language_model", time_limit_s=60, path=path, **arguments)
    assert "\n" not in str(caught.value)
    loaded = worker.request("load_language_model", time_limit_s=60, path=wide_gguf, **arguments)
    assert loaded["vocabulary"] == 320


def test_an_encoder_is_refused(framework: LlamaCpp, tmp_path: Path) -> None:
    path, width = tmp_path / "encoder.gguf", 32
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_block_count(1)
    writer.add_context_length(width)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(width)
    writer.add_causal_attention(False)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("no_vocab")
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"]
    norms = ["attn_output_norm", "layer_output_norm"]
    square = np.ones((width, width), np.float32)
    for name in ("token_embd", "position_embd"):
        writer.add_tensor(f"{name}.weight", square)
    writer.add_tensor("token_types.weight", square[:2])
    for name in ("token_embd_norm", *(f"blk.0.{norm}" for norm in norms)):
        writer.add_tensor(f"{name}.weight", square[0])
        writer.add_tensor(f"{name}.bias", square[0])
    for name in matrices:
        writer.add_tensor(f"blk.0.{name}.weight", square)
        writer.add_tensor(f"blk.0.{name}.bias", square[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match='a "bert" model does not continue text token by token'):
        framework.load_language_model(path, ONE_THREAD, 16)


def test_what_is_no_file(framework: LlamaCpp, wide: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        framework.load_language_model(tmp_path / "none.gguf", ONE_THREAD, 8)
    with pytest.raises(ModelError, match="this is a directory"):
        framework.load_language_model(wide, ONE_THREAD, 8)


def test_a_model_for_speed_is_smaller_and_made_in_a_worker(
    framework_worker: Start, tmp_path: Path
) -> None:
    source = write_gguf(tmp_path / "speed.gguf", parameters=3_000_000, hidden=256, vocabulary=1000)
    progress: list[tuple[str, float]] = []
    made = framework_worker(LLAMACPP).request(
        "optimize",
        time_limit_s=120,
        on_progress=lambda what, fraction: progress.append((what, fraction)),
        source=source,
        recipe=Recipe("llamacpp", "q4_k_m"),
        architecture="language-model",
        inputs=[],
        calibration=None,
        output=tmp_path / "made",
    )
    assert Path(made["path"]).stat().st_size < source.stat().st_size / 5
    assert any("q4_k_m: " in line for line in made["log"])
    assert len({what for what, _ in progress}) >= 2


def test_nothing_is_printed(
    framework: LlamaCpp, load: Load, wide_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(wide_gguf).generate(random_tokens(WIDE, 4), 4)
    with pytest.raises(ModelError):
        load(wide_gguf, 100_000)
    assert capfd.readouterr() == ("", "")
