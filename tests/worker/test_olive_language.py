"""Microsoft Olive's language models in ONNX Runtime GenAI: against a Llama written in NumPy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import (
    CONFIG,
    Weights,
    llama_config,
    llama_weights,
    plain_logits,
    random_tokens,
    rounded,
    write_huggingface,
)
from numpy.typing import NDArray

import pytest_edgeai
from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import FrameworkMissing, ModelError, UserError
from pytest_edgeai.optimize.frameworks.catalogue import OLIVE
from pytest_edgeai.records import Recipe
from pytest_edgeai.worker.host import Worker, WorkerSpec

VARIABLE = "PYTEST_EDGEAI_TEST_OLIVE_PYTHON"
CONTEXT = 64
# Id 2 is what the model pads with: as data it is a token like any other, at the end too.
PADDED = llama_config(pad_token_id=2)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[], Worker]]:
    """Return a function that starts a worker in Olive's interpreter, or skips without one."""
    started: list[Worker] = []

    def make() -> Worker:
        interpreter = Path(os.environ.get(VARIABLE, sys.executable))
        try:
            worker = Worker.start(WorkerSpec(OLIVE, interpreter), time_limit_s=120)
        except FrameworkMissing as missing:
            pytest.skip(f"{missing}; or name an interpreter that has it in {VARIABLE}")
        started.append(worker.__enter__())
        if "onnxruntime-genai" not in worker.versions:
            pytest.skip("needs onnxruntime-genai: pip install onnxruntime-genai==0.14.0")
        return worker

    yield make
    for worker in started:
        worker.__exit__(None, None, None)


@pytest.fixture(scope="module")
def worker(start: Callable[[], Worker]) -> Worker:
    """One worker for all tests: Olive takes seconds to import."""
    return start()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_huggingface(tmp_path_factory.mktemp("llama") / "hf", PADDED)


def optimize(worker: Worker, source: Path, scheme: str, output: Path, **options: Any) -> Any:
    return worker.request(
        "optimize",
        time_limit_s=120,
        source=source,
        recipe=Recipe("olive", scheme, options),
        architecture="language-model",
        inputs=[],
        calibration=None,
        output=output,
    )


@pytest.fixture(scope="module")
def made(worker: Worker, source: Path) -> Callable[[str], Path]:
    """Return a function that makes one artifact of each scheme."""
    done: dict[str, Path] = {}

    def make(scheme: str) -> Path:
        if scheme not in done:
            result = optimize(worker, source, scheme, source.parent / scheme)
            done[scheme] = Path(result["path"])
        return done[scheme]

    return make


_DIRECT = """
import sys
from pathlib import Path
from pytest_edgeai.optimize.frameworks.olive_language import _TRUST_NOTHING, _build_directly
from pytest_edgeai.optimize.frameworks.support import Report

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
build = {"type": "ModelBuilder", "precision": sys.argv[3], "int4_block_size": 16, **_TRUST_NOTHING}
made, outcome = _build_directly(source, {"build": build}, folder, Report(()))
print(made if made is not None else outcome.words[-1])
"""


def test_a_builder_that_olive_cannot_drive_is_called_by_its_command_line(
    worker: Worker, source: Path, tmp_path: Path
) -> None:
    """Olive 0.13 knows onnxruntime-genai up to 0.14; what its own pass would do is done here."""
    root = Path(pytest_edgeai.__file__).parents[1]

    def build(precision: str) -> str:
        ended = subprocess.run(
            [worker.spec.interpreter, "-c", _DIRECT, source, tmp_path / precision, precision],
            env={**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout.splitlines()[-1]

    path = Path(build("int4"))
    assert read_structure(path).weight_elements["uint4"] > 80_000
    load(worker, path)
    tokens = tokens_with_padding()
    difference = np.array(score(worker, tokens, tmp_path)["nll"]) - expected_nll(tokens)
    assert 1e-5 < np.abs(difference).mean() < 0.5
    assert "int3" in build("int3")


def load(worker: Worker, path: Path, context: int = CONTEXT, **runtime: Any) -> Any:
    return worker.request(
        "load_language_model",
        time_limit_s=60,
        handle="m",
        path=path,
        runtime={"threads": 1, **runtime},
        context_tokens=context,
    )


def score(worker: Worker, tokens: NDArray[np.int32], folder: Path) -> Any:
    np.save(folder / "ids.npy", tokens[None])
    return worker.request(
        "score",
        time_limit_s=60,
        handle="m",
        ids=folder / "ids.npy",
        block=0,
        exchange=folder / "exchange",
        role="alone",
    )


def expected_nll(
    tokens: NDArray[np.int32],
    config: dict[str, Any] = PADDED,
    weights: Weights | None = None,
) -> NDArray[np.float64]:
    logits = plain_logits(config, weights or llama_weights(config), tokens)[:-1]
    logits = logits - logits.max(axis=-1, keepdims=True)
    logits = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return np.asarray(-logits[np.arange(len(tokens) - 1), tokens[1:]])


def tokens_with_padding() -> NDArray[np.int32]:
    tokens = random_tokens(CONFIG, 40)
    tokens[[5, 6, 17, -1]] = 2
    return tokens


def test_float32_computes_what_the_model_computes(
    worker: Worker, made: Callable[[str], Path], tmp_path: Path
) -> None:
    path = made("convert")
    structure = read_structure(path)
    assert not structure.quantized_operators
    assert structure.weight_elements["float32"] > 100_000
    loaded = load(worker, path)
    assert loaded["vocabulary"] == CONFIG["vocab_size"]
    assert loaded["context_tokens"] == CONTEXT
    # 2 layers, keys and values of 2 heads of 16 float32 each
    assert loaded["kv_cache_bytes"] == 2 * 2 * 2 * 16 * 4 * CONTEXT
    tokens = tokens_with_padding()
    found = score(worker, tokens, tmp_path)
    np.testing.assert_allclose(found["nll"], expected_nll(tokens), rtol=1e-4, atol=1e-4)
    assert found["nan"] == found["infinite"] == 0


@pytest.mark.parametrize(
    ("scheme", "bits", "most"), [("int4-genai", 4, 0.5), ("int8-genai", 8, 0.03)]
)
def test_quantized_weights_and_what_they_cost(
    worker: Worker,
    made: Callable[[str], Path],
    tmp_path: Path,
    scheme: str,
    bits: int,
    most: float,
) -> None:
    path = made(scheme)
    structure = read_structure(path)
    packed = sum(
        count
        for name, count in structure.weight_elements.items()
        if name in (f"int{bits}", f"uint{bits}")
    )
    assert packed > sum(structure.weight_elements.values()) / 2
    assert structure.quantized_operators["MatMulNBits"] >= 7
    assert structure.size_bytes < read_structure(made("convert")).size_bytes / 2
    assert not list(path.parent.parent.glob("olive-*"))
    assert not (path.parent / "footprint.json").exists()
    load(worker, path)
    tokens = tokens_with_padding()
    difference = np.array(score(worker, tokens, tmp_path)["nll"]) - expected_nll(tokens)
    assert 1e-5 < np.abs(difference).mean() < most
    executed = worker.request("language_execution", time_limit_s=60, handle="m")
    assert executed["executed_precisions"][f"int{bits}"] >= 7
    assert executed["executed_devices"] == ["CPU"]


@pytest.mark.parametrize("scheme", ["convert", "int4-genai"])
def test_generation_is_greedy_and_ends_at_the_end_of_text(
    worker: Worker, made: Callable[[str], Path], tmp_path: Path, scheme: str
) -> None:
    load(worker, made(scheme))
    prompt = [int(token) for token in tokens_with_padding()]

    def generate() -> list[int]:
        return list(
            worker.request("generate", time_limit_s=60, handle="m", tokens=prompt, count=8)[
                "tokens"
            ]
        )

    generated = generate()
    assert generated == generate()
    whole = np.array([*prompt, *generated], np.int32)
    likeliest = score(worker, whole, tmp_path)["likeliest"][len(prompt) - 1 :]
    assert generated == likeliest[: len(generated)]
    assert len(generated) == 8 or generated[-1] == CONFIG["eos_token_id"]
    assert CONFIG["eos_token_id"] not in generated[:-1]
    if scheme == "convert":
        logits = plain_logits(PADDED, llama_weights(PADDED), np.array(prompt, np.int32))
        assert generated[0] == logits[-1].argmax()


def test_an_end_of_text_token_ends_generation(
    worker: Worker, made: Callable[[str], Path], tmp_path: Path
) -> None:
    """The second of two end tokens is what the model says next: it is returned, and ends."""
    copy = tmp_path / "copy"
    shutil.copytree(made("convert").parent, copy)
    tokens = tokens_with_padding()
    following = int(plain_logits(PADDED, llama_weights(PADDED), tokens)[-1].argmax())
    file = copy / "genai_config.json"
    config = json.loads(file.read_text())
    config["model"]["eos_token_id"] = [1, following]
    file.write_text(json.dumps(config))
    load(worker, copy / "model.onnx")
    found = worker.request("generate", time_limit_s=60, handle="m", tokens=tokens.tolist(), count=8)
    assert found["tokens"] == [following]
    # Scores know nothing of end tokens.
    np.testing.assert_allclose(
        score(worker, tokens, tmp_path)["nll"], expected_nll(tokens), rtol=1e-4, atol=1e-4
    )


def test_bound_phases_are_timed_in_any_order(
    worker: Worker, made: Callable[[str], Path], tmp_path: Path
) -> None:
    load(worker, made("int4-genai"))
    tokens = tokens_with_padding()
    before = score(worker, tokens, tmp_path)
    for phase, count in (("decode", 40), ("prefill", 24), ("first_token", 1), ("decode", 2)):
        worker.request(
            "bind_phase",
            time_limit_s=60,
            handle="m",
            phase=phase,
            ids=tmp_path / "ids.npy",
            block=0,
            tokens=count,
        )
        timed = worker.request("time_calls", time_limit_s=60, handle="m", calls=3)
        assert min(timed["wall_ns"]) > 0
    assert score(worker, tokens, tmp_path) == before


def test_text_is_tokenized_by_the_model_s_tokenizer(
    worker: Worker, made: Callable[[str], Path], source: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the model is measured", encoding="utf-8")

    def tokenize(path: Path) -> list[int]:
        return list(worker.request("tokenize", time_limit_s=60, path=path, text=text)["ids"])

    ids = tokenize(source)
    assert ids
    assert tokenize(made("convert")) == ids
    with pytest.raises(ModelError, match="no tokenizer"):
        tokenize(write_huggingface(tmp_path / "bare", tokenizer=False))


def test_memory_is_that_of_the_model(
    start: Callable[[], Worker], made: Callable[[str], Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "ids.npy", tokens_with_padding()[None])
    found = start().request(
        "measure_language_memory",
        time_limit_s=60,
        path=made("convert"),
        runtime={"threads": 1},
        context_tokens=CONTEXT,
        ids=tmp_path / "ids.npy",
        tokens=32,
        calls=2,
    )
    assert 0 < found["null_bytes"] < 250 * 2**20
    assert found["kv_cache_bytes"] == 2 * 2 * 2 * 16 * 4 * CONTEXT


def test_a_model_without_a_tokenizer_is_made(worker: Worker, tmp_path: Path) -> None:
    bare = write_huggingface(tmp_path / "bare", tokenizer=False)
    made = optimize(worker, bare, "convert", tmp_path / "made")
    path = Path(made["path"])
    assert not list(path.parent.glob("tokenizer*"))
    assert any("without a tokenizer" in line for line in made["log"])
    load(worker, path)
    tokens = random_tokens(CONFIG, 40)
    np.testing.assert_allclose(
        score(worker, tokens, tmp_path)["nll"], expected_nll(tokens), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [({"tie_word_embeddings": True}, "float32"), ({}, "bfloat16"), ({"head_dim": 32}, "float16")],
)
def test_models_of_other_kinds(
    worker: Worker, tmp_path: Path, changes: dict[str, Any], dtype: str
) -> None:
    config = llama_config(**changes)
    weights = llama_weights(config)
    folder = write_huggingface(tmp_path / "hf", config, weights=weights, dtype=dtype)
    made = optimize(worker, folder, "convert", tmp_path / "made")
    load(worker, Path(made["path"]))
    tokens = random_tokens(CONFIG, 40)
    np.testing.assert_allclose(
        score(worker, tokens, tmp_path)["nll"],
        expected_nll(tokens, config, rounded(weights, dtype)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("int4-genai", {"block_size": 33}, "16, 32, 64, 128, 256"),
        ("int4-genai", {"algorithm": "gptq"}, "default, rtn, k_quant_last, k_quant_mixed"),
        ("int8-genai", {"algorithm": "rtn"}, 'unknown option "algorithm"'),
        ("int8-static", {}, "takes an ONNX file, and this is a directory"),
    ],
)
def test_recipes_that_cannot_be_made(
    worker: Worker,
    source: Path,
    tmp_path: Path,
    scheme: str,
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        optimize(worker, source, scheme, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"intermediate_size": 320}, "mlp.gate_proj"),
        ({"vocab_size": 64}, "o_proj|q_proj|down_proj"),
    ],
)
def test_a_vocabulary_that_the_builder_would_mistake_is_refused(
    worker: Worker, tmp_path: Path, changes: dict[str, Any], tensor: str
) -> None:
    """It takes any matrix with as many rows as the vocabulary for the head, without an error."""
    same = write_huggingface(tmp_path / "same", llama_config(**changes), tokenizer=False)
    with pytest.raises(ModelError, match=rf"layers\.0\..*({tensor}).* rows as the vocabulary"):
        optimize(worker, same, "int4-genai", tmp_path / "out")


def test_sources_that_are_no_language_model(worker: Worker, tmp_path: Path) -> None:
    cut = write_huggingface(tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError) as refused:
        optimize(worker, cut, "int4-genai", tmp_path / "a")
    assert "model.safetensors" in str(refused.value)
    odd = write_huggingface(tmp_path / "odd", llama_config(architectures=["NoSuchForCausalLM"]))
    with pytest.raises(ModelError, match="olive made no int4-genai of this model: "):
        optimize(worker, odd, "int4-genai", tmp_path / "b")


def test_what_cannot_be_loaded(
    worker: Worker, made: Callable[[str], Path], source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"there is no genai_config\.json"):
        load(worker, source)
    with pytest.raises(ModelError, match="context is 128 tokens long, and 129 are asked for"):
        load(worker, made("convert"), 129)
    with pytest.raises(UserError, match='has no device "CUDA"'):
        load(worker, made("convert"), device="CUDA")
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(ModelError, match="the configuration is damaged"):
        load(worker, tmp_path)
    (tmp_path / "genai_config.json").write_text('{"model": {"decoder": {}}}')
    with pytest.raises(ModelError, match="lacks context_length, vocab_size, filename, head_size"):
        load(worker, tmp_path)
    (tmp_path / "genai_config.json").write_text(
        (made("convert").parent / "genai_config.json").read_text()
    )
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="onnxruntime-genai refuses the model"):
        load(worker, tmp_path)
