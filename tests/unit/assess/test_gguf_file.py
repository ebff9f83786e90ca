"""GGUF models: files written by the ``gguf`` package as the oracle, and damaged ones."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_edgeai.assess.ggml_types import ARCHITECTURES, FILE_TYPES, GGML_TYPES
from pytest_edgeai.assess.gguf_container import read_container
from pytest_edgeai.assess.gguf_file import read_gguf
from pytest_edgeai.assess.model import read_model
from pytest_edgeai.errors import ModelError

gguf = pytest.importorskip("gguf", reason="needs the gguf package: pip install gguf")

HIDDEN, VOCABULARY, LAYERS, FEED = 256, 300, 2, 512
NUMPY = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
}

Write = Callable[..., Path]


def shapes(*, tied: bool = False, experts: int = 0) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    if not tied:
        found["output.weight"] = (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        found[f"blk.{layer}.attn_q.weight"] = (HIDDEN, HIDDEN)
        found[f"blk.{layer}.attn_norm.weight"] = (HIDDEN,)
        if experts:
            found[f"blk.{layer}.ffn_up_exps.weight"] = (experts, FEED, HIDDEN)
        else:
            found[f"blk.{layer}.ffn_up.weight"] = (FEED, HIDDEN)
    return found


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a small model with ``gguf.GGUFWriter``."""

    def make(
        kind: str = "F32",
        *,
        name: str = "model.gguf",
        family: str = "llama",
        tied: bool = False,
        experts: int = 0,
        tokenizer: bool = True,
        extra: Callable[[Any], None] = lambda writer: None,
        only: Callable[[str], bool] = lambda name: True,
        **writer_options: Any,
    ) -> Path:
        path = tmp_path / name
        writer = gguf.GGUFWriter(path, family, **writer_options)
        writer.add_context_length(512)
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(LAYERS)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        if experts:
            writer.add_expert_count(experts)
            writer.add_expert_used_count(2)
        if tokenizer:
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
            writer.add_token_merges(["a b", "c d"])
        extra(writer)
        type_ = gguf.GGMLQuantizationType[kind]
        random = np.random.default_rng(0)
        for tensor, shape in shapes(tied=tied, experts=experts).items():
            if not only(tensor):
                continue
            array = random.normal(size=shape).astype(np.float32)
            if len(shape) == 1:
                writer.add_tensor(tensor, array)
            elif kind == "F16":
                writer.add_tensor(tensor, array.astype(np.float16))
            elif kind == "F32":
                writer.add_tensor(tensor, array)
            else:
                block, size = gguf.GGML_QUANT_SIZES[type_]
                raw = np.zeros((*shape[:-1], shape[-1] // block * size), np.uint8)
                writer.add_tensor(tensor, raw, raw_dtype=type_)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def header(entries: bytes = b"", *, tensors: int = 0, count: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + entries


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    return (
        text(name)
        + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        + struct.pack("<IQ", kind, offset)
    )


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "made.gguf"
    path.write_bytes(data)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_gguf(path)
    line = str(caught.value)
    assert line.startswith(str(path.parent))
    assert "\n" not in line
    return line


def outcome(path: Path) -> str:
    """Return the line of the refusal, empty where the file was read."""
    try:
        read_gguf(path)
    except ModelError as error:
        return str(error)
    return ""


def test_the_type_tables_are_those_of_the_gguf_package() -> None:
    for type_, (block, size) in gguf.GGML_QUANT_SIZES.items():
        ours = GGML_TYPES[int(type_)]
        assert (ours.block_elements, ours.block_bytes) == (block, size)
        assert NUMPY.get(ours.name, ours.name.upper()) == type_.name
    for scheme in gguf.LlamaFileType:
        if scheme.name != "GUESSED":
            name = scheme.name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
            assert FILE_TYPES[int(scheme)] == name
    assert set(gguf.MODEL_ARCH_NAMES.values()) <= ARCHITECTURES


@pytest.mark.parametrize(
    "kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "Q2_K", "IQ4_NL", "TQ1_0"]
)
def test_tensors_agree_with_the_gguf_reader(write: Write, kind: str) -> None:
    path = write(kind)
    ours = read_container(path)
    theirs = gguf.GGUFReader(path)
    assert [
        (each.name, list(each.dims), each.elements, each.stored_bytes) for each in ours.tensors
    ] == [
        (each.name, each.shape.tolist(), int(each.n_elements), int(each.n_bytes))
        for each in theirs.tensors
    ]
    assert [NUMPY.get(each.type.name, each.type.name.upper()) for each in ours.tensors] == [
        each.tensor_type.name for each in theirs.tensors
    ]
    assert len(ours.metadata) == len([key for key in theirs.fields if not key.startswith("GGUF.")])


def test_really_quantized_tensors(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    path = tmp_path / "q.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind in ("Q8_0", "Q5_1", "Q4_0"):
        type_ = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(kind, gguf.quantize(array, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    facts = read_gguf(path)
    assert facts.weight_elements == {"q4_0": 4096, "q5_1": 4096, "q8_0": 4096}
    assert facts.quantization in ("q4_0", "q5_1", "q8_0")


def test_facts_of_a_language_model(write: Write) -> None:
    path = write("Q4_K", extra=lambda writer: writer.add_file_type(15))
    facts = read_model(path)
    assert facts.format == "gguf"
    assert facts.files == (path,)
    assert facts.size_bytes == path.stat().st_size
    assert facts.quantization == "q4_k_m"
    assert facts.architecture == "language-model"
    assert facts.notes == ()
    dense = 2 * VOCABULARY * HIDDEN + LAYERS * (HIDDEN * HIDDEN + FEED * HIDDEN)
    assert facts.weight_elements == {"float32": LAYERS * HIDDEN, "q4_k": dense}
    assert facts.row_elements == {HIDDEN: dense}
    language = facts.language
    assert language is not None
    assert (language.family, language.is_known) == ("llama", True)
    assert (language.context_length, language.vocabulary) == (512, VOCABULARY)
    assert (language.hidden_size, language.layers) == (HIDDEN, LAYERS)
    assert (language.heads, language.kv_heads, language.head_size) == (4, 2, 64)
    assert language.kv_cache_elements_per_token == 2 * LAYERS * 2 * 64
    assert (language.tokenizer, language.has_chat_template) == ("gpt2", False)
    assert not language.tied_embeddings


@pytest.mark.parametrize("tied", [False, True])
def test_work_of_a_token(write: Write, tied: bool) -> None:
    facts = read_model(write("F16", tied=tied))
    matrices = VOCABULARY * HIDDEN + LAYERS * (HIDDEN * HIDDEN + FEED * HIDDEN)
    assert facts.flops_per_inference == 2 * (matrices + LAYERS * HIDDEN)
    # The output layer and one row of the embedding, at two bytes; the norms at four.
    assert facts.bytes_per_inference == 2 * (matrices + HIDDEN) + 4 * LAYERS * HIDDEN
    assert facts.arithmetic_intensity == pytest.approx(1.0, rel=0.01)
    assert "token" in facts.workload_note


def test_a_token_touches_the_experts_that_it_is_routed_to(write: Write) -> None:
    facts = read_model(write("F16", experts=8))
    assert facts.architecture == "mixture-of-experts"
    dense = VOCABULARY * HIDDEN + LAYERS * (HIDDEN * HIDDEN + HIDDEN)
    assert facts.flops_per_inference == 2 * (dense + LAYERS * 2 * FEED * HIDDEN)
    assert facts.language is not None
    assert (facts.language.experts, facts.language.experts_per_token) == (8, 2)


def test_experts_without_a_number_per_token_leave_the_work_unknown(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((4, 8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    facts = read_model(path)
    assert facts.flops_per_inference is None
    assert facts.bytes_per_inference is None
    assert "routed" in facts.workload_note


def test_what_is_unusual_is_noted(write: Write) -> None:
    facts = read_model(write(family="martian", tokenizer=False))
    assert facts.language is not None
    assert not facts.language.is_known
    assert '"martian" is none that llama.cpp' in facts.notes[0]
    assert "no tokenizer" in facts.notes[1]
    encoder = read_model(write(family="bert", name="e.gguf", tied=True))
    assert encoder.architecture == "transformer"


def test_per_layer_head_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count([4, 4])
    writer.add_head_count_kv([2, 1])
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    language = read_gguf(path).language
    assert language is not None
    assert language.heads == 4
    assert (language.layers, language.head_size) == (None, None)
    assert language.kv_cache_elements_per_token is None


def test_every_cut_is_refused(write: Write, tmp_path: Path) -> None:
    path = write("Q8_0", tied=True)
    data = path.read_bytes()
    ours = read_container(path)
    last = ours.tensors[-1].stored_bytes
    padding = -last % 32
    short = tmp_path / "short.gguf"
    for cut in [*range(0, 4000, 97), len(data) // 2, len(data) - padding - 1]:
        short.write_bytes(data[:cut])
        line = refused(short)
        assert "truncated" in line or "no GGUF" in line
    short.write_bytes(data[: len(data) - padding])
    assert read_gguf(short).parameters == read_gguf(path).parameters


def test_the_cut_names_the_tensor_and_the_bytes(write: Write, tmp_path: Path) -> None:
    path = write("F32")
    size = path.stat().st_size
    (tmp_path / "c.gguf").write_bytes(path.read_bytes()[: size - 4096])
    line = refused(tmp_path / "c.gguf")
    assert f"reaches to byte {size}, the file has {size - 4096} bytes" in line


def test_big_endian_and_other_versions(write: Write, tmp_path: Path) -> None:
    assert "big-endian" in refused(write(endianess=gguf.GGUFEndian.BIG))
    for version in (0, 1, 4, 99):
        line = refused(put(tmp_path, header(version=version)))
        assert f"version {version}; allowed: 2 and 3" in line
    assert "Git LFS" in refused(put(tmp_path, b"version https://git-lfs.github.com/spec/v1\n"))
    assert "no GGUF file" in refused(put(tmp_path, b"GGML" + bytes(64)))
    assert "empty" in refused(put(tmp_path, b""))


ARCH = entry(b"general.architecture", 8, text(b"llama"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (header(tensors=1 << 60), "declares 1152921504606846976 tensors"),
        (header(count=1 << 60), "metadata entries, more than"),
        (header(ARCH * 2, count=2), '"general.architecture" occurs twice'),
        (header(entry(b"k", 13, bytes(8)), count=1), "has the type 13"),
        (header(struct.pack("<Q", 1 << 40) + bytes(20), count=1), "key is 1099511627776 bytes"),
        (header(text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 61), count=1), 'array "k"'),
        (header(text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 61), count=1), "and is cut short"),
        (header(text(b"k") + struct.pack("<IIQQ", 9, 8, 1, 999), count=1), 'array "k"'),
        (header(entry(b"k", 9, struct.pack("<IQ", 9, 1) * 6 + bytes(40)), count=1), "too deep"),
        (header(ARCH, count=1), "holds no tensor"),
        (header(tensor(b"t", (32,), 0, 0) + bytes(256), tensors=1), "general.architecture"),
        (header(tensor(b"t", (1,) * 5, 0, 0) + bytes(256), tensors=1), "5 dimensions"),
        (header(tensor(b"t", (1 << 40, 1 << 40), 0, 0) + bytes(99), tensors=1), "impossible"),
        (header(tensor(b"t", (32,), 77, 0) + bytes(256), tensors=1), "ggml type 77"),
        (header(tensor(b"t", (33,), 8, 0) + bytes(256), tensors=1), "rows of 33 elements"),
        (header(tensor(b"t", (8,), 0, 7) + bytes(256), tensors=1), "no multiple of general"),
        (header(tensor(b"t", (8,), 0, 0) * 2 + bytes(256), tensors=2), '"t" occurs twice'),
        (
            header(tensor(b"a", (16,), 0, 0) + tensor(b"b", (16,), 0, 32) + bytes(512), tensors=2),
            '"a" and "b" overlap',
        ),
        (
            header(entry(b"general.alignment", 4, struct.pack("<I", 24)) + bytes(64), count=1),
            "not a power of two",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, data: bytes, what: str) -> None:
    assert what in refused(put(tmp_path, data))


def test_version_2_is_read(tmp_path: Path) -> None:
    data = header(ARCH + tensor(b"t", (8,), 0, 0), count=1, tensors=1, version=2)
    facts = read_gguf(put(tmp_path, data + bytes(-len(data) % 32) + bytes(32)))
    assert facts.weight_elements == {"float32": 8}


def split(write: Write, number: int, count: int = 2) -> Path:
    def extra(writer: Any) -> None:
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)

    return write(
        name=f"m-{number + 1:05}-of-{count:05}.gguf",
        extra=extra,
        only=lambda name: name.startswith("blk.0") == (number == 0),
    )


def test_split_models(write: Write) -> None:
    first, second = split(write, 0), split(write, 1)
    whole = read_gguf(write())
    facts = read_gguf(first)
    assert facts.files == (first, second)
    assert facts.parameters == whole.parameters
    assert facts.workload == whole.workload
    assert "Name the first one: m-00001-of-00002.gguf" in refused(second)
    second.write_bytes(first.read_bytes())
    assert "split.no is 0, not 1" in refused(first)
    second.unlink()
    assert "m-00002-of-00002.gguf is missing" in refused(first)
    first.rename(first.with_name("other.gguf"))
    assert "which the file's name does not say" in refused(first.with_name("other.gguf"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), with_magic=st.booleans())
def test_arbitrary_bytes_never_crash(tmp_path: Path, data: bytes, with_magic: bool) -> None:
    path = put(tmp_path, (b"GGUF\x03\0\0\0" if with_magic else b"") + data)
    line = outcome(path)
    assert line == "" or line.startswith(str(path))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_flipped_bytes_never_crash(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    made = header(
        ARCH
        + entry(b"llama.block_count", 4, struct.pack("<I", 2))
        + entry(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text(b"ab") * 3)
        + tensor(b"token_embd.weight", (32, 2), 8, 0)
        + tensor(b"blk.0.ffn_up.weight", (32, 4), 0, 96),
        count=3,
        tensors=2,
    )
    data = bytearray(made + bytes(-len(made) % 32) + bytes(608))
    for at, value in changes:
        data[at] = value
    assert "\n" not in outcome(put(tmp_path, bytes(data)))


def test_a_huge_file_of_nothing_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    names = text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 33)
    with path.open("wb") as file:
        file.write(header(names, count=1 << 19, tensors=1 << 19))
        file.truncate(1 << 34)
    code = (
        "import resource, sys, pathlib\n"
        "from pytest_edgeai.assess.gguf_file import read_gguf\n"
        "from pytest_edgeai.errors import ModelError\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29))\n"
        "try:\n    read_gguf(pathlib.Path(sys.argv[1]))\n"
        "except ModelError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert 'the metadata key "" occurs twice' in done.stdout


def test_a_large_model_is_read_without_its_data(tmp_path: Path) -> None:
    """The real point is that no data is touched: 64 GiB that no disk here could hold."""
    path = tmp_path / "large.gguf"
    side = 1 << 16
    made = header(ARCH + tensor(b"t", (side, side * 4), 0, 0), count=1, tensors=1)
    with path.open("wb") as file:
        file.write(made)
        file.truncate(len(made) + 64 + side * side * 16)
    began = time.monotonic()
    assert read_model(path, with_hash=False).parameters == side * side * 4
    assert time.monotonic() - began < 30
