"""The language model of examples/tiny-llama is what its README says."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from numpy_llama import logits, token_losses

from pytest_edgeai.assess.model import read_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"
MODEL = EXAMPLE / "model"
CONTEXT = 256

pytestmark = pytest.mark.skipif(
    not (MODEL / "model.safetensors").exists(),
    reason="the sdist leaves the model out; examples/tiny-llama/train.py makes it",
)


@pytest.fixture(scope="module")
def readme() -> str:
    return " ".join((EXAMPLE / "README.md").read_text("utf-8").split())


@pytest.fixture(scope="module")
def blocks() -> NDArray[np.int32]:
    with np.load(EXAMPLE / "heldout.npz") as data:
        assert data.files == ["input_ids"]
        found: NDArray[np.int32] = data["input_ids"]
    return found


def test_the_assessment_reads_it(readme: str) -> None:
    facts = read_model(MODEL)
    assert (facts.format, facts.architecture) == ("huggingface", "language-model")
    assert set(facts.weight_elements) == {"float32"}
    assert f"{facts.parameters:,} parameters" in readme
    assert facts.notes == ()
    language = facts.language
    assert language is not None
    assert (language.family, language.is_known) == ("llama", True)
    assert (language.vocabulary, language.hidden_size, language.layers) == (768, 256, 3)
    assert (language.heads, language.kv_heads, language.head_size) == (4, 2, 64)
    assert language.context_length == CONTEXT
    assert language.tokenizer == "tokenizer.json"
    assert not language.tied_embeddings


def test_the_vocabulary_cannot_be_taken_for_an_mlp() -> None:
    config = json.loads((MODEL / "config.json").read_text("utf-8"))
    assert config["vocab_size"] not in (config["intermediate_size"], config["hidden_size"])


def test_the_heldout_ids_fit_the_model(blocks: NDArray[np.int32]) -> None:
    assert blocks.dtype == np.int32
    assert blocks.shape[0] >= 32
    assert blocks.shape[1] == CONTEXT
    assert blocks.min() >= 0
    assert blocks.max() < 768
    assert len(np.unique(blocks, axis=0)) == len(blocks)


def test_the_files_are_those_of_the_readme(readme: str) -> None:
    shipped = [*sorted(MODEL.iterdir()), EXAMPLE / "heldout.npz", EXAMPLE / "heldout.txt"]
    for path in shipped:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"`{path.relative_to(EXAMPLE).as_posix()}`" in readme
        assert digest in readme, path.name


def test_the_readme_says_how_the_parts_were_kept_apart(readme: str) -> None:
    assert "no run of 13 words of the held-out text stands in the training text" in readme


def test_the_heldout_text_has_the_heldout_ids(blocks: NDArray[np.int32]) -> None:
    """Tokenized as a whole and cut every 256 tokens; the incomplete last block is dropped."""
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ModuleNotFoundError:
        pytest.skip("tokenizers is not installed; run: pip install tokenizers")
    text = (EXAMPLE / "heldout.txt").read_bytes().decode("utf-8")
    ids = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(text).ids
    assert len(ids) // CONTEXT == len(blocks)
    np.testing.assert_array_equal(np.array(ids[: blocks.size]).reshape(blocks.shape), blocks)


def test_the_ids_spell_the_heldout_text(blocks: NDArray[np.int32]) -> None:
    """The byte-level vocabulary turns the ids back into the text, whatever cut it into tokens."""
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text("utf-8"))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    # GPT-2 writes bytes that are no printable character as the characters from 256 on.
    bytes_of = {chr(byte): byte for byte in printable}
    bytes_of |= {chr(256 + index): byte for index, byte in enumerate(others)}
    words = {index: word for word, index in tokenizer["model"]["vocab"].items()}
    spelled = bytes(bytes_of[letter] for index in blocks.flat for letter in words[int(index)])
    assert (EXAMPLE / "heldout.txt").read_bytes().startswith(spelled)


def test_the_perplexity_is_that_of_the_readme(readme: str, blocks: NDArray[np.int32]) -> None:
    stated = re.search(r"of the first 8 blocks alone: ([\d.]+)", readme)
    assert stated is not None
    losses = [token_losses(logits(MODEL, block), block) for block in blocks[:8]]
    assert np.exp(np.mean(losses)) == pytest.approx(float(stated[1]), rel=5e-5)


def test_the_logits_look_at_nothing_that_comes_later(blocks: NDArray[np.int32]) -> None:
    whole = logits(MODEL, blocks[0])
    assert whole.dtype == np.float32
    for count in (1, 2, 100):
        np.testing.assert_allclose(logits(MODEL, blocks[0, :count]), whole[:count], atol=1e-4)


def test_every_tensor_matters(blocks: NDArray[np.int32], tmp_path: Path) -> None:
    """A forward pass that left a weight unused would not be a reference."""
    from numpy_llama import read_llama

    model = read_llama(MODEL)
    expected = logits(MODEL, blocks[0, :8])
    for name, weight in model.weights.items():
        kept = weight.copy()
        weight *= 1.5
        changed = logits(MODEL, blocks[0, :8])
        weight[...] = kept
        assert not np.allclose(changed, expected, atol=1e-3), name
