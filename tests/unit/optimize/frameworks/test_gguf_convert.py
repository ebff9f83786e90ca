"""Hugging Face directories as GGUF files, read back by the ``gguf`` package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import (
    CONFIG,
    llama_config,
    llama_weights,
    rounded,
    write_huggingface,
    write_safetensors,
    write_tokenizer,
)
from numpy.typing import NDArray

from pytest_edgeai.assess.gguf_file import read_gguf
from pytest_edgeai.errors import ModelError

gguf = pytest.importorskip("gguf", reason="run: pip install gguf")

from pytest_edgeai.optimize.frameworks.gguf_convert import Conversion, convert_directory  # noqa: E402
from pytest_edgeai.optimize.frameworks.gguf_tokenizer import read_tokenizer  # noqa: E402

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def silent(what: str, fraction: float) -> None:
    assert what
    assert 0 <= fraction <= 1


def convert(source: Path) -> tuple[Any, Conversion]:
    path = source.with_suffix(".gguf")
    made = convert_directory(source, path, silent)
    return gguf.GGUFReader(path), made


def values(reader: Any) -> dict[str, NDArray[np.float32]]:
    """Return every tensor as float32, shaped as in the checkpoint."""
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(
            tuple(int(extent) for extent in reversed(tensor.shape))
        )
        for tensor in reader.tensors
    }


def field(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; ``None`` removes one."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


@pytest.mark.parametrize(
    ("dtype", "type_name", "shards"),
    [("float32", "F32", 1), ("float16", "F16", 3), ("bfloat16", "BF16", 2)],
)
def test_weights_keep_their_precision_and_values(
    tmp_path: Path, dtype: str, type_name: str, shards: int
) -> None:
    weights = llama_weights(CONFIG)
    source = write_huggingface(tmp_path / "hf", weights=weights, dtype=dtype, shards=shards)
    reader, made = convert(source)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert {name for name, kind in types.items() if kind == type_name} >= {
        "token_embd.weight",
        "output.weight",
        "blk.1.ffn_down.weight",
    }
    assert {types["blk.0.attn_norm.weight"], types["output_norm.weight"]} == {"F32"}
    assert made.precision == dtype
    assert dtype in made.log[0]
    found, wanted = values(reader), rounded(weights, dtype)
    assert len(found) == len(wanted)
    places = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.1.attn_norm.weight": "model.layers.1.input_layernorm.weight",
        "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
        "blk.1.attn_v.weight": "model.layers.1.self_attn.v_proj.weight",
        "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
        "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",
        "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
        "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
    }
    for name, old in places.items():
        np.testing.assert_array_equal(found[name], wanted[old], err_msg=name)
    # Row 2i of a head was row i, row 2i + 1 was row i of its second half (16 rows a head).
    order = [16 * head + half * 8 + row for head in range(4) for row in range(8) for half in (0, 1)]
    queries = wanted["model.layers.0.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"], queries[order])
    keys = wanted["model.layers.1.self_attn.k_proj.weight"]
    np.testing.assert_array_equal(found["blk.1.attn_k.weight"], keys[order[:32]])


def test_sizes_and_tokenizer_are_written(tmp_path: Path) -> None:
    source = write_huggingface(tmp_path / "hf")
    (source / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    change(source / "config.json", eos_token_id=[1, 5, 9])
    reader, made = convert(source)
    expected = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": 320,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.eot_token_id": 5,
        "tokenizer.ggml.eom_token_id": 9,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert {key: field(reader, key) for key in expected} == expected
    assert field(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    tokens, types = (field(reader, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    assert tokens[:2] == ["<s>", "</s>"]
    assert len(tokens) == len(types) == 320
    assert types[:3] == [gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL]
    assert len(field(reader, "tokenizer.ggml.merges")) == 320 - 258
    assert "llama.rope.scaling.type" not in reader.fields
    assert "tokenizer: gpt2 with the pre-tokenizer gpt-2" in made.log
    facts = read_gguf(tmp_path / "hf.gguf").language
    assert facts is not None
    assert (facts.vocabulary, facts.layers, facts.head_size) == (320, 2, 16)


def test_a_directory_without_tokenizer_gives_a_model_of_token_ids(tmp_path: Path) -> None:
    reader, made = convert(write_huggingface(tmp_path / "hf", tokenizer=False))
    assert field(reader, "tokenizer.ggml.model") == "no_vocab"
    assert "tokenizer.ggml.tokens" not in reader.fields
    assert "token ids only: the directory holds no tokenizer.json" in made.log[-1]


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    reader, _ = convert(write_huggingface(tmp_path / "hf", llama_config(tie_word_embeddings=True)))
    names = {tensor.name for tensor in reader.tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    config = llama_config(
        architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=48
    )
    reader, made = convert(write_huggingface(tmp_path / "hf", config))
    assert field(reader, "llama.context_length") == 48
    assert made.log[1].startswith("context length: 48 tokens, the sliding window")


def test_linear_rope_scaling_is_carried_over(tmp_path: Path) -> None:
    config = llama_config(rope_scaling={"type": "linear", "factor": 4.0})
    reader, _ = convert(write_huggingface(tmp_path / "hf", config))
    assert field(reader, "llama.rope.scaling.type") == "linear"
    assert field(reader, "llama.rope.scaling.factor") == 4.0


def test_frequencies_of_llama3(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = llama_config(rope_parameters=scaling, rope_theta=None)
    reader, _ = convert(write_huggingface(tmp_path / "hf", config))
    assert field(reader, "llama.rope.freq_base") == 500.0
    divisors = values(reader)["rope_freqs.weight"]
    assert divisors.shape == (8,)
    assert divisors[0] == 1  # wavelength 6, far below 64 / 4
    assert divisors[-1] == 8  # wavelength 1445, above 64
    assert np.all(np.diff(divisors) >= 0)
    assert np.any((divisors > 1) & (divisors < 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            r'"GPT2LMHeadModel".*allowed: LlamaForCausalLM, M',
        ),
        ({"architectures": None}, r"no exact conversion .* \"llama\""),
        ({"hidden_act": "gelu"}, r'hidden_act is "gelu".*"silu"'),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
        ({"num_local_experts": 8}, "num_local_experts is 8"),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing"),
        ({"rms_norm_eps": -1}, r"rms_norm_eps is -1; allowed: a positive number"),
        ({"rope_theta": "many"}, "rope_theta is"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            '"dynamic".*default, linear, llama3',
        ),
        ({"rope_scaling": {"type": "linear"}}, "factor is null"),
        ({"rope_scaling": [4]}, "rope_scaling is"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"hidden_size": 60}, "hidden_size is 60"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3"),
        ({"vocab_size": 400}, "vocab_size is 400"),
        ({"intermediate_size": 128}, "intermediate_size is 128"),
        ({"tie_word_embeddings": None, "attention_bias": True}, "q_proj.bias is missing"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ],
)
def test_what_is_not_exact_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    source = write_huggingface(tmp_path / "hf")
    change(source / "config.json", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        convert(source)
    assert "\n" not in str(caught.value)


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    def damage(weights: dict[str, Any]) -> None:
        del weights[name]

    return damage


def transpose(weights: dict[str, Any]) -> None:
    weights["model.layers.0.mlp.down_proj.weight"] = np.zeros((96, 64), np.float32)


def add(weights: dict[str, Any]) -> None:
    weights["model.layers.0.self_attn.sinks"] = np.zeros(4, np.float32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("lm_head.weight"), "lm_head.weight is missing"),
        (drop("model.layers.1.self_attn.v_proj.weight"), "v_proj.weight is missing"),
        (transpose, r"down_proj.weight has the shape \[96, 64\], and config.json says \[64, 96\]"),
        (add, "1 tensors have no place .* model.layers.0.self_attn.sinks"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    weights: dict[str, Any] = llama_weights(CONFIG)
    damage(weights)
    with pytest.raises(ModelError, match=message):
        convert(write_huggingface(tmp_path / "hf", weights=weights))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = write_huggingface(tmp_path / "hf", shards=2)
    (source / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"1 of 2 weight files are missing.*00002-of-00002"):
        convert(source)


def test_buffers_that_follow_from_the_configuration_are_left_out(tmp_path: Path) -> None:
    weights = llama_weights(CONFIG)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(8, np.float32)
    reader, _ = convert(write_huggingface(tmp_path / "hf", weights=weights))
    assert len(reader.tensors) == len(weights) - 1


def test_double_precision_is_refused(tmp_path: Path) -> None:
    source = write_huggingface(tmp_path / "hf")
    path = source / "model.safetensors"
    weights = llama_weights(CONFIG)
    write_safetensors(path, weights)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    last = list(header)[-1]
    begin, end = header[last]["data_offsets"]
    header[last] |= {"dtype": "F64", "data_offsets": [begin, 2 * end - begin]}
    text = json.dumps(header).encode()
    data = raw[8 + length :] + bytes(end - begin)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(ModelError, match=r'lm_head.weight" is float64; allowed: float32, float16'):
        convert(source)


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignores_merges", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, False, "gpt-2"),
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, False, "gpt-2 "),
        ((LLAMA3_SPLIT, None), True, "llama-bpe"),
        ((LLAMA3_SPLIT, None), False, "smaug-bpe"),
        ((LLAMA3_SPLIT.replace("{1,3}", ""), None), False, "qwen2"),
        ((r"\w+", None), False, "default"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                ],
            },
            False,
            "smollm",
        ),
    ],
)
def test_pre_tokenizers_are_recognized(
    tmp_path: Path, pre_tokenizer: Any, ignores_merges: bool, name: str
) -> None:
    if isinstance(pre_tokenizer, tuple):
        split = {"type": "Split", "pattern": {"Regex": pre_tokenizer[0]}, "behavior": "Isolated"}
        level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [split, level]}
    write_tokenizer(tmp_path, 300, pre_tokenizer=pre_tokenizer)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["ignore_merges"] = ignores_merges
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    read = read_tokenizer(tmp_path, 310)
    assert (read.model, read.pre) == ("gpt2", name.strip())
    assert bool(read.note) == (name in ("default", "gpt-2 "))
    assert read.tokens[-1] == "[PAD309]"
    assert read.types[-1] == gguf.TokenType.UNUSED


def sentencepiece_like(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json like Llama 2's, of 3 + 256 + some tokens."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [["▁", "t"], ["h", "e"], ["▁t", "he"]]
    tokens += ["▁", "t", "h", "e", "▁t", "he", "▁the"]
    return {
        "added_tokens": [
            {"id": index, "content": tokens[index], "special": True} for index in range(3)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
        },
        **changes,
    }


def test_a_sentencepiece_like_tokenizer_gets_scores(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(sentencepiece_like()), encoding="utf-8")
    read = read_tokenizer(tmp_path, 270)
    assert (read.model, read.pre, read.merges, read.space_prefix) == ("llama", "", (), True)
    kinds = gguf.TokenType
    assert [read.types[index] for index in (0, 1, 3, 260, 269)] == [
        *(kinds.UNKNOWN, kinds.CONTROL, kinds.BYTE, kinds.NORMAL, kinds.UNUSED)
    ]
    scores = dict(zip(read.tokens, read.scores, strict=True))
    assert (scores["▁t"], scores["he"], scores["▁the"]) == (0, -1, -2)
    assert scores["h"] < -2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the tokenizer is broken"),
        ("[]", "no JSON object"),
        ('{"model": {"type": "BPE", "vocab": [1], "merges": []}}', "the tokenizer is broken"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0, "b": 99}, "merges": []}}', "id is 99"),
        (
            '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},'
            ' "added_tokens": [{"id": 1, "content": "a"}]}',
            "the same text",
        ),
    ],
)
def test_a_broken_tokenizer_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    source = write_huggingface(tmp_path / "hf", llama_config(vocab_size=40), tokenizer=False)
    (source / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        convert(source)


def test_other_kinds_of_tokenizers_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "Unigram", "vocab": []}}), encoding="utf-8")
    read = read_tokenizer(tmp_path, 10)
    assert (read.model, read.tokens) == ("no_vocab", ())
    assert "Unigram, not BPE" in read.note
    content = sentencepiece_like()
    content["model"]["byte_fallback"] = False
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "neither byte-level" in read_tokenizer(tmp_path, 300).note
