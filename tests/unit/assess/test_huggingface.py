"""Hugging Face directories: written by the ``safetensors`` package, quantized, damaged, lying."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_edgeai.assess.huggingface import INDEX, WEIGHTS, read_huggingface
from pytest_edgeai.assess.model import read_model
from pytest_edgeai.assess.safetensors_file import DTYPES, read_safetensors
from pytest_edgeai.errors import ModelError

VOCABULARY, HIDDEN, LAYERS, FEED, HEADS, KV_HEADS = 48, 16, 2, 24, 4, 2
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": FEED,
    "max_position_embeddings": 128,
}
NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.uint32): "U32"}
NAMES |= {np.dtype(np.int32): "I32", np.dtype(np.uint8): "U8", np.dtype(np.int64): "I64"}
NAMES |= {np.dtype(np.int8): "I8"}

Arrays = dict[str, "np.ndarray[Any, Any]"]
Make = Callable[..., Path]


def llama(*, tied: bool = False, dtype: type = np.float32) -> Arrays:
    found: Arrays = {"model.embed_tokens.weight": np.zeros((VOCABULARY, HIDDEN), dtype)}
    if not tied:
        found["lm_head.weight"] = np.zeros((VOCABULARY, HIDDEN), dtype)
    half = HIDDEN * KV_HEADS // HEADS
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        found[f"{block}.input_layernorm.weight"] = np.zeros(HIDDEN, dtype)
        found[f"{block}.self_attn.q_proj.weight"] = np.zeros((HIDDEN, HIDDEN), dtype)
        found[f"{block}.self_attn.k_proj.weight"] = np.zeros((half, HIDDEN), dtype)
        found[f"{block}.mlp.gate_proj.weight"] = np.zeros((FEED, HIDDEN), dtype)
        found[f"{block}.mlp.down_proj.weight"] = np.zeros((HIDDEN, FEED), dtype)
    return found


MATRICES = VOCABULARY * HIDDEN + LAYERS * (HIDDEN + HIDDEN * HIDDEN * 3 // 2 + 2 * FEED * HIDDEN)


def encode(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def save(arrays: Arrays, path: Path) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, array in arrays.items():
        end = at + array.nbytes
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, end],
        }
        at = end
    path.write_bytes(encode(header, b"".join(array.tobytes() for array in arrays.values())))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes a model directory."""

    def write(arrays: Arrays | None = None, *, shards: int = 0, **config: Any) -> Path:
        home = tmp_path / "model"
        home.mkdir(exist_ok=True)
        (home / "config.json").write_text(json.dumps(CONFIG | config))
        (home / "tokenizer.json").write_text("{}")
        arrays = llama() if arrays is None else arrays
        if not shards:
            save(arrays, home / WEIGHTS)
            return home
        listed: dict[str, str] = {}
        for number in range(shards):
            name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = {key: arrays[key] for key in sorted(arrays)[number::shards]}
            save(part, home / name)
            listed |= dict.fromkeys(part, name)
        (home / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
        return home

    return write


def outcome(path: Path) -> str:
    """Return the line of the refusal, empty where the model was read."""
    try:
        read_huggingface(path)
    except ModelError as error:
        return str(error)
    return ""


def refused(path: Path) -> str:
    line = outcome(path)
    assert line.startswith(str(path))
    assert "\n" not in line
    return line


def test_facts_of_a_language_model(make: Make) -> None:
    home = make()
    facts = read_model(home)
    assert (facts.format, facts.architecture) == ("huggingface", "language-model")
    assert [file.name for file in facts.files] == ["config.json", WEIGHTS, "tokenizer.json"]
    assert facts.size_bytes == sum(file.stat().st_size for file in facts.files)
    assert len(facts.sha256) == 64
    assert facts.parameters == MATRICES + VOCABULARY * HIDDEN
    assert facts.weight_elements == {"float32": facts.parameters}
    narrow = LAYERS * FEED * HIDDEN
    vectors = LAYERS * HIDDEN
    assert facts.row_elements == {FEED: narrow, HIDDEN: facts.parameters - narrow - vectors}
    assert facts.quantization == ""
    assert facts.notes == ()
    assert facts.flops_per_inference == 2 * MATRICES
    assert facts.bytes_per_inference == 4 * (MATRICES + HIDDEN)
    language = facts.language
    assert language is not None
    assert (language.family, language.context_length) == ("llama", 128)
    assert (language.vocabulary, language.hidden_size, language.layers) == (48, 16, 2)
    assert (language.heads, language.kv_heads, language.head_size) == (4, 2, 4)
    assert (language.tokenizer, language.has_chat_template) == ("tokenizer.json", False)
    assert not language.tied_embeddings
    before = facts.sha256
    (home / "config.json").write_text(json.dumps(CONFIG | {"rope_theta": 1e6}))
    assert read_model(home).sha256 != before


def test_tied_embeddings_are_read_as_the_output_layer(make: Make) -> None:
    facts = read_model(make(llama(tied=True)))
    assert facts.language is not None
    assert facts.language.tied_embeddings
    assert facts.flops_per_inference == 2 * MATRICES
    assert facts.parameters == MATRICES


def test_shards_are_read_through_the_index(make: Make) -> None:
    facts = read_model(make(shards=3))
    assert facts.parameters == MATRICES + VOCABULARY * HIDDEN
    assert len([file for file in facts.files if file.suffix == ".safetensors"]) == 3
    assert INDEX in [file.name for file in facts.files]


def test_a_missing_shard_is_named(make: Make) -> None:
    home = make(shards=3)
    (home / "model-00002-of-00003.safetensors").unlink()
    line = refused(home)
    assert "1 of 3 weight files are missing, the first is model-00002-of-00003" in line
    (home / INDEX).unlink()
    assert f"2 weight files and no {INDEX} (file 2 of 3 is missing too)" in refused(home)


def test_an_index_that_does_not_fit_is_refused(make: Make) -> None:
    home = make(shards=2)
    index = json.loads((home / INDEX).read_text())
    index["weight_map"]["ghost.weight"] = "model-00001-of-00002.safetensors"
    (home / INDEX).write_text(json.dumps(index))
    assert 'holds the tensor "ghost.weight", and it does not' in refused(home)
    for name in ("../other.safetensors", "/etc/passwd", "a\\b", "..", "", "a\0", 3):
        index["weight_map"] = {"t": name}
        (home / INDEX).write_text(json.dumps(index))
        assert "allowed: the name of a file in the same directory" in refused(home)
    (home / INDEX).write_text("{}")
    assert "weight_map is missing" in refused(home)


def test_a_tensor_in_two_shards_is_refused(make: Make) -> None:
    home = make(shards=2)
    first, second = sorted(home.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    assert "lies in model-00001-of-00002.safetensors too" in refused(home)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"vocab_size": 50}, "vocab_size is 50, and the tensor model.embed_tokens.weight"),
        ({"hidden_size": 32}, "hidden_size is 32"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, and the tensors model.layers.*"),
        ({"num_attention_heads": 2, "head_dim": 4}, "num_attention_heads x head size is 8"),
        ({"num_key_value_heads": 4}, "num_key_value_heads x head size is 16"),
        ({"intermediate_size": 25}, "intermediate_size is 25"),
        ({"vocab_size": "48"}, 'vocab_size is "48"; allowed: a positive whole number'),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_hidden_layers": True}, "num_hidden_layers is true"),
        ({"max_position_embeddings": 1.5}, "max_position_embeddings is 1.5"),
        ({"hidden_size": float("nan")}, "hidden_size is NaN"),
        ({"model_type": None}, "model_type is missing"),
    ],
)
def test_a_configuration_that_lies_is_refused(
    make: Make, changes: dict[str, Any], what: str
) -> None:
    home = make(**changes)
    line = refused(home)
    assert what in line
    assert line.startswith(str(home / "config.json"))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_configuration_is_refused(make: Make, raw: bytes) -> None:
    home = make()
    (home / "config.json").write_bytes(raw)
    assert "JSON" in refused(home)


def test_other_directories_say_what_to_do(make: Make, tmp_path: Path) -> None:
    home = make()
    (home / WEIGHTS).rename(home / "pytorch_model.bin")
    assert "pickled (pytorch_model.bin)" in refused(home)
    (home / "pytorch_model.bin").unlink()
    assert "holds no weights" in refused(home)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no config.json" in refused(empty)
    for name, what in (
        ("model.gguf", "Name the .gguf file"),
        ("model.onnx", "Name the .onnx file"),
        ("openvino_model.xml", "Name the .xml file"),
        ("adapter_config.json", "LoRA"),
    ):
        other = tmp_path / name.replace(".", "-")
        other.mkdir()
        (other / name).write_bytes(b"x")
        assert what in refused(other)


def test_a_missing_tokenizer_is_noted(make: Make) -> None:
    home = make()
    (home / "tokenizer.json").unlink()
    facts = read_model(home)
    assert facts.language is not None
    assert facts.language.tokenizer == ""
    assert "no tokenizer" in facts.notes[0]
    for raw in (b"", b'{"version": "1.0", "mod', b"<html>"):
        (home / "tokenizer.json").write_bytes(raw)
        assert "tokenizer.json is damaged" in read_model(home).notes[0]
    (home / "tokenizer.json").unlink()
    (home / "tokenizer.model").write_bytes(b"x")
    (home / "tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}')
    language = read_model(home).language
    assert language is not None
    assert (language.tokenizer, language.has_chat_template) == ("tokenizer.model", True)


def test_mlx_weights_are_counted_unpacked(make: Make) -> None:
    arrays = llama(dtype=np.float16)
    for name in [name for name in arrays if arrays[name].ndim == 2]:
        rows, columns = arrays.pop(name).shape
        module = name.removesuffix(".weight")
        arrays[name] = np.zeros((rows, columns * 4 // 32), np.uint32)
        for extra in ("scales", "biases"):
            arrays[f"{module}.{extra}"] = np.zeros((rows, columns // 8), np.float16)
    facts = read_model(make(arrays, quantization={"group_size": 8, "bits": 4}))
    assert facts.quantization == "mlx-int4-g8"
    norms = LAYERS * HIDDEN
    assert facts.weight_elements == {
        "float16": norms,
        "uint4": MATRICES + VOCABULARY * HIDDEN - norms,
    }
    assert facts.flops_per_inference == 2 * MATRICES
    # Half a byte each, and two float16 for each group of eight; one row of the embedding.
    packed = MATRICES - norms + HIDDEN
    assert facts.bytes_per_inference == packed // 2 + packed // 8 * 4 + norms * 2


def test_mixed_mlx_bits(make: Make) -> None:
    arrays = llama(tied=True)
    name = "model.layers.0.mlp.gate_proj"
    arrays[f"{name}.weight"] = np.zeros((FEED, HIDDEN * 8 // 32), np.uint32)
    arrays[f"{name}.scales"] = np.zeros((FEED, 1), np.float32)
    facts = read_model(make(arrays, quantization={"group_size": 16, "bits": 4, name: {"bits": 8}}))
    assert facts.weight_elements["uint8"] == FEED * HIDDEN


@pytest.mark.parametrize(
    ("settings_", "tensors", "dtype", "label"),
    [
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 8},
            {
                "qweight": np.zeros((HIDDEN // 8, FEED), np.int32),
                "qzeros": np.zeros((2, FEED // 8), np.int32),
                "scales": np.zeros((2, FEED), np.float16),
                "g_idx": np.zeros(HIDDEN, np.int32),
            },
            "uint4",
            "gptq-int4-g8",
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            {
                "weight": np.zeros((FEED * HIDDEN // 2, 1), np.uint8),
                "weight.absmax": np.zeros(6, np.float32),
                "weight.quant_state.bitsandbytes__nf4": np.zeros(40, np.uint8),
            },
            "nf4",
            "bitsandbytes-nf4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"0": {"weights": {"num_bits": 4, "group_size": 8}}},
            },
            {
                "weight_packed": np.zeros((FEED, HIDDEN // 8), np.int32),
                "weight_scale": np.zeros((FEED, 2), np.float16),
                "weight_shape": np.zeros(2, np.int64),
            },
            "uint4",
            "compressed-tensors-int4-g8",
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            {"weight": np.zeros((FEED, HIDDEN), np.int8), "SCB": np.zeros(FEED, np.float32)},
            "int8",
            "bitsandbytes-int8",
        ),
    ],
)
def test_other_packings(
    make: Make, settings_: dict[str, Any], tensors: Arrays, dtype: str, label: str
) -> None:
    arrays = llama()
    module = "model.layers.0.mlp.gate_proj"
    del arrays[f"{module}.weight"]
    plain = sum(array.size for array in arrays.values())
    arrays |= {f"{module}.{name}": array for name, array in tensors.items()}
    facts = read_model(make(arrays, quantization_config=settings_))
    assert facts.quantization == label
    assert facts.weight_elements == {"float32": plain, dtype: FEED * HIDDEN}


@pytest.mark.parametrize("fused", [False, True])
def test_experts(make: Make, fused: bool) -> None:
    arrays = {name: array for name, array in llama().items() if ".mlp." not in name}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}.mlp"
        if fused:
            arrays[f"{block}.experts.up_proj"] = np.zeros((4, HIDDEN, FEED), np.float32)
        else:
            for expert in range(4):
                name = f"{block}.experts.{expert}.up_proj.weight"
                arrays[name] = np.zeros((FEED, HIDDEN), np.float32)
        arrays[f"{block}.shared_expert.up_proj.weight"] = np.zeros((FEED, HIDDEN), np.float32)
    home = make(arrays, model_type="qwen2_moe", num_experts=4, num_experts_per_tok=2)
    facts = read_model(home)
    assert facts.architecture == "mixture-of-experts"
    dense = MATRICES - LAYERS * 2 * FEED * HIDDEN
    assert facts.flops_per_inference == 2 * (dense + LAYERS * 3 * FEED * HIDDEN)


@pytest.mark.parametrize(
    ("family", "classes", "architecture"),
    [
        ("bert", ["BertForSequenceClassification"], "transformer"),
        ("resnet", ["ResNetForImageClassification"], "convolutional"),
        ("rwkv", ["RwkvModel"], "recurrent"),
        ("gpt2", ["GPT2LMHeadModel"], "language-model"),
    ],
)
def test_classes_of_models(make: Make, family: str, classes: list[str], architecture: str) -> None:
    facts = read_model(make(model_type=family, architectures=classes))
    assert facts.architecture == architecture
    assert (facts.flops_per_inference is None) == (architecture != "language-model")


def test_headers_agree_with_the_safetensors_package(tmp_path: Path) -> None:
    numpy_api = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    arrays: Arrays = {
        "a": np.zeros((3, 5), np.float16),
        "b": np.zeros((), np.float64),
        "c": np.zeros((0, 4), np.int64),
        "d": np.zeros((7,), np.bool_),
        "e": np.zeros((2, 2), np.uint16),
    }
    path = tmp_path / "x.safetensors"
    numpy_api.save_file(arrays, path, metadata={"k": "v"})
    found = {each.name: each for each in read_safetensors(path)}
    assert {name: (each.dtype, each.shape) for name, each in found.items()} == {
        name: (array.dtype.name, array.shape) for name, array in arrays.items()
    }
    assert sum(each.stored_bytes for each in found.values()) == sum(
        array.nbytes for array in arrays.values()
    )


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "less than the length of a header"),
        (b"\0" * 7, "less than the length of a header"),
        (struct.pack("<Q", 100_000_001) + b"{", "declares 100000001 bytes"),
        (struct.pack("<Q", 1 << 63) + b"{", "the format allows 100000000"),
        (struct.pack("<Q", 500) + b"{}", "cut short: the header needs 508 bytes"),
        (encode(b"x{}"), "does not start with {"),
        (encode(b"{,}"), "no JSON"),
        (encode(b'{"a":' * 50_000), "no JSON"),
        (encode(b'{"a":1,"a":2}'), 'names "a" twice'),
        (encode({"a": 1}), 'entry "a" is no object'),
        (encode({"a": F32 | {"dtype": "Q4"}}, bytes(8)), "dtype Q4"),
        (encode({"a": F32 | {"dtype": []}}, bytes(8)), "dtype []"),
        (encode({"a": F32 | {"shape": [-2]}}, bytes(8)), "no valid shape"),
        (encode({"a": F32 | {"shape": [True]}}, bytes(8)), "no valid shape"),
        (encode({"a": F32 | {"shape": [1 << 40, 1 << 40]}}, bytes(8)), "impossible"),
        (encode({"a": F32 | {"data_offsets": [0]}}, bytes(8)), "no valid data_offsets"),
        (encode({"a": F32 | {"data_offsets": [8, 0]}}, bytes(8)), "holds -8 bytes"),
        (encode({"a": F32 | {"shape": [3]}}, bytes(8)), "holds 8 bytes; F32[3] needs 12"),
        (encode({"a": F32}, bytes(7)), "its tensors need 8 bytes, it holds 7"),
        (encode({"a": F32}, bytes(9)), "1 bytes follow"),
        (encode({"a": F32 | {"data_offsets": [4, 12]}}, bytes(12)), "leave a hole"),
        (encode({"a": F32, "b": F32}, bytes(8)), "overlap"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_damaged_weights_are_refused(make: Make, raw: bytes, what: str) -> None:
    home = make()
    (home / WEIGHTS).write_bytes(raw)
    line = refused(home)
    assert what in line
    assert line.startswith(str(home / WEIGHTS))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(sorted(DTYPES)) | values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | values,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | values,
    }
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.dictionaries(st.text(max_size=8), entries | values, max_size=3).map(encode)
    | st.binary(max_size=200),
    tail=st.binary(max_size=64),
)
def test_arbitrary_weights_never_crash(make: Make, raw: bytes, tail: bytes) -> None:
    home = make()
    (home / WEIGHTS).write_bytes(raw + tail)
    line = outcome(home)
    assert line == "" or line.startswith(str(home))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [*CONFIG, "quantization", "quantization_config", "text_config", "num_experts"]
        ),
        values,
        max_size=4,
    )
)
def test_arbitrary_configurations_never_crash(make: Make, changes: dict[str, Any]) -> None:
    home = make(**changes)
    line = outcome(home)
    assert line == "" or line.startswith(str(home))
