"""``config.json`` of a Hugging Face model: what it says, and whether the tensors agree.

Source: https://huggingface.co/docs/transformers/main_classes/configuration, and the attribute maps
of transformers' configurations, which give older families other names for the same keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_edgeai.assess.packed_weights import LogicalWeight, module_of
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import Architecture, LanguageModelFacts

_MOST_BYTES = 1 << 24
_LARGEST_NUMBER = 1 << 40
# Models that read images or sound keep the language model's keys in a table of its own.
_TEXT_TABLES = ("text_config", "llm_config", "language_config")
VOCABULARY = ("vocab_size",)
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k")
# Families whose embedding is narrower than their residual stream.
_EMBEDDING_WIDTH = ("embedding_size", "word_embed_proj_dim")

# Token embeddings by the last words of their names, and the output layers.
EMBEDDINGS = (
    "embed_tokens",
    "word_embeddings",
    "tok_embeddings",
    "wte",
    "embed_in",
    "embeddings.word_embeddings",
    "model.embeddings",
    "backbone.embeddings",
    "shared",
)
OUTPUTS = ("lm_head", "embed_out", "output", "output_layer")
_LAYER = re.compile(r"(?P<stack>(?:.*\.)?(?:layers|h|blocks|block|layer))\.(?P<index>\d{1,6})\.")
# Families of the plain Llama layout, whose projections follow from the keys alone.
_LLAMA_LIKE = frozenset({"llama", "mistral", "qwen2", "qwen3"})

_CONVOLUTIONAL = frozenset(
    """
    bit convnext convnextv2 efficientnet focalnet levit mobilenet_v1 mobilenet_v2 poolformer regnet
    resnet timm_wrapper van
    """.split()  # noqa: SIM905
)
_RECURRENT = frozenset({"encodec", "mamba", "mamba2", "rwkv"})


class Config:
    """A ``config.json``, its values checked as they are asked for.

    Attributes:
        path: the file.
        family: ``model_type``.
        classes: ``architectures``.
        raw: the whole object.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ModelError: if it is missing, no JSON object, or states no ``model_type``.
        """
        self.path = path
        self.raw: Mapping[str, Any] = read_json(path)
        family = self.raw.get("model_type")
        if not isinstance(family, str) or not family:
            raise ModelError(
                "model_type is missing",
                where=str(path),
                allowed='the family of the model, such as "llama"',
                advice="Export the model again with save_pretrained",
            )
        self.family = family
        classes = self.raw.get("architectures")
        listed = classes if isinstance(classes, list) else []
        self.classes = tuple(each for each in listed if isinstance(each, str))
        nested = (self.raw.get(name) for name in _TEXT_TABLES)
        text = next((table for table in nested if isinstance(table, dict)), None)
        self._text: Mapping[str, Any] = self.raw if text is None else {**self.raw, **text}

    def number(self, keys: Sequence[str]) -> int | None:
        """Return the first of ``keys`` that is stated.

        Raises:
            ModelError: if its value is no positive whole number.
        """
        return self.stated(keys)[1]

    def stated(self, keys: Sequence[str]) -> tuple[str, int | None]:
        """Return the first of ``keys`` that is stated, with its value; ``None`` for none.

        Raises:
            ModelError: if its value is no positive whole number.
        """
        for key in keys:
            value = self._text.get(key)
            if value is None or isinstance(value, list):
                # A list gives one value per block.
                continue
            if type(value) is not int or not 0 < value < _LARGEST_NUMBER:
                raise ModelError(
                    f"{key} is {json.dumps(value)[:40]}",
                    where=str(self.path),
                    allowed="a positive whole number",
                )
            return key, value
        return keys[0], None

    @property
    def expert_count(self) -> int:
        """Experts of a mixture-of-experts layer; 0 or 1 in the file means none."""
        for key in EXPERTS:
            value = self._text.get(key)
            if type(value) is int and 1 < value < _LARGEST_NUMBER:
                return value
        return 0

    @property
    def is_causal(self) -> bool:
        """Whether the model continues text, as its class says."""
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in self.classes) or any(
            name.endswith("ForConditionalGeneration") and self._text is not self.raw
            for name in self.classes
        )

    @property
    def architecture(self) -> Architecture:
        """The class that the default recipes are chosen by."""
        if self.expert_count:
            return "mixture-of-experts"
        if self.is_causal:
            return "language-model"
        if self.family in _CONVOLUTIONAL:
            return "convolutional"
        if self.family in _RECURRENT:
            return "recurrent"
        return "transformer" if self.number(HEADS) else "other"

    def language(
        self, *, tokenizer: str, has_chat_template: bool, tied_embeddings: bool
    ) -> LanguageModelFacts:
        """Return the facts of the network."""
        hidden, heads = self.number(HIDDEN), self.number(HEADS)
        even = hidden // heads if hidden and heads and not hidden % heads else None
        experts = self.expert_count
        return LanguageModelFacts(
            family=self.family,
            context_length=self.number(CONTEXT),
            vocabulary=self.number(VOCABULARY),
            hidden_size=hidden,
            layers=self.number(LAYERS),
            heads=heads,
            kv_heads=self.number(KV_HEADS) or heads,
            head_size=self.number(("head_dim",)) or even,
            experts=experts,
            experts_per_token=(self.number(EXPERTS_PER_TOKEN) or 0) if experts else 0,
            tokenizer=tokenizer,
            has_chat_template=has_chat_template,
            tied_embeddings=tied_embeddings,
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: if the file is missing, unreadable, larger than 16 MiB or no JSON object.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"the file is larger than {_MOST_BYTES} bytes", where=str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"this is no JSON: {str(error)[:80]}",
            where=str(path),
            advice="The file is truncated or damaged: download it again",
        ) from None
    if not isinstance(found, dict):
        raise ModelError("this is no JSON object", where=str(path))
    return found


def embedding_of(weights: Iterable[LogicalWeight]) -> LogicalWeight | None:
    """Return the table of token embeddings, ``None`` where no name is known as one."""
    found = [each for each in weights if _is_named(each, EMBEDDINGS)]
    return min(found, key=lambda each: len(each.name), default=None)


def has_output_layer(weights: Iterable[LogicalWeight]) -> bool:
    """Return whether the model stores an output layer of its own."""
    return any(module_of(each.name).split(".")[-1] in OUTPUTS for each in weights)


def _is_named(weight: LogicalWeight, names: Iterable[str]) -> bool:
    module = f".{module_of(weight.name)}"
    return any(module.endswith(f".{name}") for name in names)


def check_sizes(config: Config, weights: Sequence[LogicalWeight]) -> None:
    """Check the sizes that the configuration states against the tensors.

    Raises:
        ModelError: naming the key, its value, and the tensor that contradicts it.
    """
    embedding = embedding_of(weights)
    if embedding is not None and len(embedding.shape) == 2:
        _check(config, VOCABULARY, embedding.shape[0], embedding)
        narrow = config.number(_EMBEDDING_WIDTH) is not None
        _check(config, _EMBEDDING_WIDTH if narrow else HIDDEN, embedding.shape[1], embedding)
    _check_layers(config, weights)
    if config.family in _LLAMA_LIKE and not config.expert_count:
        _check_projections(config, weights)


def _check(config: Config, keys: Sequence[str], actual: int, weight: LogicalWeight) -> None:
    key, stated = config.stated(keys)
    if stated is not None and stated != actual:
        raise ModelError(
            f"{key} is {stated}, and the tensor {weight.name} of shape {list(weight.shape)} "
            f"says {actual}",
            where=str(config.path),
            advice="The configuration and the weights are of different models",
        )


def _check_layers(config: Config, weights: Sequence[LogicalWeight]) -> None:
    key, stated = config.stated(LAYERS)
    stacks: dict[str, int] = {}
    for weight in weights:
        name = _LAYER.match(weight.name)
        if name is not None:
            stack, count = name["stack"], int(name["index"]) + 1
            stacks[stack] = max(stacks.get(stack, 0), count)
    if stated is None or not stacks:
        return
    # Multi-token prediction adds blocks after the last one.
    extra = config.number(("num_nextn_predict_layers",)) or 0
    if not {stated, stated + extra} & set(stacks.values()):
        stack, count = max(stacks.items(), key=lambda item: item[1])
        raise ModelError(
            f"{key} is {stated}, and the tensors {stack}.* have {count} layers",
            where=str(config.path),
            advice="The configuration and the weights are of different models",
        )


def _check_projections(config: Config, weights: Sequence[LogicalWeight]) -> None:
    hidden, heads = config.number(HIDDEN), config.number(HEADS)
    head_size = config.number(("head_dim",)) or (hidden // heads if hidden and heads else None)
    kv_heads = config.number(KV_HEADS) or heads
    key, intermediate = config.stated(("intermediate_size",))
    expected = {
        "self_attn.q_proj": ("num_attention_heads x head size", heads, head_size),
        "self_attn.k_proj": ("num_key_value_heads x head size", kv_heads, head_size),
        "mlp.gate_proj": (key, intermediate, 1),
    }
    for weight in weights:
        if len(weight.shape) != 2:
            continue
        module = ".".join(module_of(weight.name).split(".")[-2:])
        what, count, width = expected.get(module, ("", None, None))
        if count and width and count * width != weight.shape[0]:
            raise ModelError(
                f"{what} is {count * width}, and the tensor {weight.name} of shape "
                f"{list(weight.shape)} says {weight.shape[0]}",
                where=str(config.path),
                advice="The configuration and the weights are of different models",
            )
