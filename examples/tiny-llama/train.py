"""Make ``model/``, ``heldout.npz`` and ``heldout.txt`` from nothing, with fixed seeds.

Text: ``pydoc_data.topics``, the parts of the Python documentation that ``help()`` shows. Copyright
Python Software Foundation, PSF License Version 2 (https://docs.python.org/3/license.html). Every
CPython ships it, each version with its own text: nothing is downloaded.

Needs: pip install "torch==2.13.0" tokenizers safetensors numpy
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from network import (
    CONTEXT,
    EPSILON,
    HEAD,
    HEADS,
    HIDDEN,
    INITIAL_DEVIATION,
    INTERMEDIATE,
    KV_HEADS,
    LAYERS,
    ROPE_THETA,
    VOCABULARY,
    Llama,
)
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

SEED = 0
THREADS = 1  # part of the recipe: sums are split by thread, so another number rounds differently
HELDOUT_RATIO = 0.1
LARGEST_HELDOUT_TOPIC = 12_000  # characters: larger topics hold others, and one would be a third
SHARED_WORDS = 13  # texts that share so many words in a row overlap: Brown et al. 2020, appendix C
SPECIAL = "<|endoftext|>"
STEPS = 480
BATCH = 8
WARM_UP_STEPS = 24
MATRIX_LEARNING_RATE = 0.02
OTHER_LEARNING_RATE = 3e-3
MOMENTUM = 0.95
WEIGHT_DECAY = 0.1

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """The topics, split so that no text stands in both parts.

    Attributes:
        train: one text per topic.
        heldout: the same, of topics that no step before the final perplexity looks at.
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]


def runs_of(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every run of ``SHARED_WORDS`` words, in order."""
    for start in range(len(words) - SHARED_WORDS + 1):
        yield tuple(words[start : start + SHARED_WORDS])


def without_repeats(text: str, seen: Set[tuple[str, ...]]) -> str:
    """Drop the paragraphs that take part in a run of words of ``seen``.

    Topics contain each other: "compound" holds the whole of "if", "while", "try" ...
    """
    paragraphs = text.strip().split("\n\n")
    while True:
        owners = [index for index, text in enumerate(paragraphs) for _ in text.split()]
        words = "\n\n".join(paragraphs).split()
        repeated: set[int] = set()
        for start, run in enumerate(runs_of(words)):
            if run in seen:
                repeated.update(owners[start : start + SHARED_WORDS])
        if not repeated:
            return "\n\n".join(paragraphs)
        paragraphs = [text for index, text in enumerate(paragraphs) if index not in repeated]


def distinct(names: Iterable[str], seen: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the topics less what ``seen`` or an earlier one holds, and add them to ``seen``."""
    kept = []
    for name in names:
        text = without_repeats(topics[name], seen)
        seen.update(runs_of(text.split()))
        if text:
            kept.append(text)
    return tuple(kept)


def load_corpus() -> Corpus:
    """Split the topics by a seeded shuffle, and remove repetitions, first from the training part.

    Raises:
        RuntimeError: the parts share a run of ``SHARED_WORDS`` words.
    """
    names = sorted(topics)
    wanted = HELDOUT_RATIO * sum(map(len, distinct(names, set())))
    shuffled = [name for name in names if len(topics[name]) <= LARGEST_HELDOUT_TOPIC]
    random.Random(SEED).shuffle(shuffled)
    seen: set[tuple[str, ...]] = set()
    heldout: tuple[str, ...] = ()
    while sum(map(len, heldout)) < wanted:
        names.remove(shuffled[-1])
        heldout += distinct([shuffled.pop()], seen)
    held = {run for text in heldout for run in runs_of(text.split())}
    train = distinct(names, seen)
    shared = held & {run for text in train for run in runs_of(text.split())}
    if shared:
        raise RuntimeError(f"{len(shared)} runs of words stand in both parts")
    return Corpus(train, heldout)


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a byte-level BPE with the split of GPT-2, of ``VOCABULARY`` entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"the tokenizer has {tokenizer.get_vocab_size()} entries")
    return tokenizer


def blocks_of(tokenizer: Tokenizer, text: str) -> Ids:
    """Tokenize ``text`` as a whole; return its whole blocks, int32 ``(blocks, CONTEXT)``."""
    ids = np.array(tokenizer.encode(text).ids, dtype=np.int32)
    count = len(ids) // CONTEXT
    return ids[: count * CONTEXT].reshape(count, CONTEXT)


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose update of each matrix is made orthogonal, in float32.

    Source: K. Jordan, https://kellerjordan.github.io/posts/muon/, with the coefficients of its
    Newton-Schulz iteration. ``torch.optim.Muon`` iterates in bfloat16, which CPUs without
    instructions for it emulate.
    """

    COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    ITERATIONS = 5

    def __init__(self, matrices: Sequence[nn.Parameter]) -> None:
        """Update ``matrices``, each of two axes."""
        super().__init__(matrices, {"lr": MATRIX_LEARNING_RATE})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: None = None) -> None:
        """Update every matrix by its gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = self._orthogonal(torch.lerp(matrix.grad, momentum, MOMENTUM))
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - group["lr"] * WEIGHT_DECAY)
                matrix.add_(update, alpha=-group["lr"] * scale)

    def _orthogonal(self, matrix: Tensor) -> Tensor:
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        wide = wide / (wide.norm() + 1e-7)
        a, b, c = self.COEFFICIENTS
        for _ in range(self.ITERATIONS):
            gram = wide @ wide.T
            wide = a * wide + (b * gram + c * gram @ gram) @ wide
        return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def learning_rate_factor(step: int) -> float:
    """Return the share of the peak: a linear rise, a plateau, and from the middle on a fall."""
    rise = (step + 1) / WARM_UP_STEPS
    fall = (STEPS - step) / (STEPS / 2)
    return min(1.0, rise, fall)


def train(stream: Ids) -> Llama:
    """Fit a model to random pieces of ``stream``, shape ``(tokens,)``; progress on stdout."""
    torch.manual_seed(SEED)
    model = Llama()
    matrices = [p for name, p in model.named_parameters() if name.endswith("_proj.weight")]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    optimizers = [
        Muon(matrices),
        torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, learning_rate_factor) for o in optimizers]
    ids = torch.from_numpy(stream.astype(np.int64))
    started = time.monotonic()
    for step in range(1, STEPS + 1):
        starts = torch.randint(len(ids) - CONTEXT, (BATCH,))
        pieces = torch.stack([ids[start : start + CONTEXT + 1] for start in starts])
        logits = model(pieces[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 20 == 0:
            seconds = time.monotonic() - started
            print(f"step {step}/{STEPS}  loss {loss.item():.3f}  {seconds:5.1f} s", flush=True)
    model.eval()
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def perplexity(model: Llama, blocks: Ids) -> float:
    """Return the perplexity of all tokens but the first of each block, ``(blocks, CONTEXT)``."""
    total, count = 0.0, 0
    for block in torch.from_numpy(blocks.astype(np.int64)).split(BATCH):
        logits = model(block)[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, block[:, 1:].flatten(), reduction="sum")
        total += loss.item()
        count += block[:, 1:].numel()
    return float(np.exp(total / count))


def unigram_perplexity(stream: Ids, blocks: Ids) -> float:
    """Return what a model reaches that knows the frequencies of ``stream``, each count plus 1."""
    counts = np.bincount(stream, minlength=VOCABULARY) + 1
    return float(np.exp(-np.log(counts / counts.sum())[blocks[:, 1:]].mean()))


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write one object, indented."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_model(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a directory that transformers loads as ``LlamaForCausalLM``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id(SPECIAL)
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_THETA,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": INITIAL_DEVIATION,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": "float32",
    }
    write_json(folder / "config.json", config)
    ends = {"bos_token_id": end, "eos_token_id": end}
    write_json(folder / "generation_config.json", {**ends, "do_sample": False})
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL,
        "eos_token": SPECIAL,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
    }
    write_json(folder / "tokenizer_config.json", settings)


def main(arguments: list[str] | None = None) -> int:
    """Train, write everything and print what was reached; returns the exit status."""
    parser = argparse.ArgumentParser(description="Reproduce the tiny-llama example from nothing.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).resolve().parent,
        metavar="DIR",
        help="where model/, heldout.npz and heldout.txt are written (default: beside this script)",
    )
    output: Path = parser.parse_args(arguments).output
    output.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)

    corpus = load_corpus()
    tokenizer = train_tokenizer(corpus.train)
    stream = np.array(tokenizer.encode(SPECIAL.join(corpus.train)).ids, dtype=np.int32)
    text = "\n\n".join(corpus.heldout) + "\n"
    blocks = blocks_of(tokenizer, text)
    for name, part in (("training", corpus.train), ("held-out", corpus.heldout)):
        print(f"{name}: {len(part)} topics, {sum(map(len, part)):,} characters")
    print(f"training: {len(stream):,} tokens; held-out: {len(blocks)} blocks of {CONTEXT} tokens")
    model = train(stream)
    save_model(model, tokenizer, output / "model")
    np.savez_compressed(output / "heldout.npz", input_ids=blocks)
    (output / "heldout.txt").write_bytes(text.encode("utf-8"))

    parameters = sum(parameter.numel() for parameter in model.parameters())
    reached = perplexity(model, blocks)
    print(
        f"{parameters:,} parameters; held-out perplexity {reached:.4f}, "
        f"of unigrams {unigram_perplexity(stream, blocks):.1f}"
    )
    data = (output / "heldout.npz", output / "heldout.txt")
    for path in (*sorted((output / "model").iterdir()), *data):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"{digest}  {path.relative_to(output)}  {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
