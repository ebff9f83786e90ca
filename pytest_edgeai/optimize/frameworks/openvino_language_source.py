"""Which directories OpenVINO can take as language models, and what their ``config.json`` says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.assess.huggingface import CONFIG
from pytest_edgeai.assess.huggingface_config import CONTEXT, Config, read_json
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.checkpoint import Checkpoint
from pytest_edgeai.optimize.frameworks.checkpoint_fit import check_tensors
from pytest_edgeai.optimize.frameworks.gguf_families import (
    FAMILIES,
    Network,
    placements,
    read_network,
)

ARTIFACT = "openvino_model.xml"
"""The name that optimum-intel and openvino-genai look for."""

GENERATION = "generation_config.json"
_ROPES = ("default", "linear", "llama3")
_OWN_WEIGHTS = (".safetensors", ".safetensors.index.json")
HOW_TO_EXPORT = (
    "These need nothing more. Others are exported by optimum-intel, in an interpreter of its own: "
    'pip install optimum-intel openvino nncf torch "transformers<5.6", and name that interpreter '
    "in the manifest: [frameworks.openvino] python = ..."
)
"""What to do about a model whose graph is not known."""


@dataclass(frozen=True)
class LanguageSource:
    """A Hugging Face directory that was checked: its network is known and its tensors are whole.

    Attributes:
        checkpoint: where its tensors lie.
        network: its sizes.
        companions: what belongs beside the artifact: configuration, tokenizer, chat template.
        notes: what a reader should know, one sentence each.
    """

    checkpoint: Checkpoint
    network: Network
    companions: tuple[Path, ...]
    notes: tuple[str, ...]


def is_language_model(path: Path) -> bool:
    """Return whether ``path`` is a directory, or an ``.xml`` file beside a decoder's configuration.

    A ``config.json`` that is none of a model's says nothing of the ``.xml`` file.
    """
    if path.is_dir():
        return True
    config = path.parent / CONFIG
    if path.suffix.lower() != ".xml" or not config.is_file():
        return False
    try:
        return Config(config).is_causal
    except ModelError:
        return False


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a Hugging Face directory; its weights are not read.

    Raises:
        ModelError: there is no such directory, a file of it is missing or damaged, or the
            configuration contradicts the tensors.
    """
    if not path.is_dir():
        raise ModelError(
            "there is no such directory",
            where=str(path),
            allowed="a Hugging Face model: config.json and *.safetensors",
        )
    return Checkpoint(path)


def graph_refusal(config: Config) -> ModelError | None:
    """Return why the network is none whose graph is known; ``None`` where it is one."""
    try:
        _check_family(config)
        read_network(config)
    except ModelError as error:
        return error
    return None


def companions_of(checkpoint: Checkpoint) -> tuple[Path, ...]:
    """Return what belongs beside the artifact: configuration, tokenizer, chat template."""
    files = checkpoint.structure.files
    return tuple(file for file in files if not file.name.endswith(_OWN_WEIGHTS))


def read_source(checkpoint: Checkpoint) -> LanguageSource:
    """Check that the network of a directory is one whose graph is known, and its tensors whole.

    Raises:
        ModelError: it is not, or the tensors are those of another network.
    """
    config = checkpoint.config
    _check_family(config)
    network = read_network(config)
    check_tensors(checkpoint, network, list(placements(network)), "this network")
    longest = longest_sequence(config)
    stated = config.number(CONTEXT)
    notes = (f"context length: {longest} tokens, the sliding window ({stated} in {CONFIG})",)
    companions = companions_of(checkpoint)
    return LanguageSource(checkpoint, network, companions, notes if longest != stated else ())


def longest_sequence(config: Config) -> int:
    """Return the number of tokens that the network was made for.

    A sliding window ends it: up to there every token sees every other, with and without it.

    Raises:
        ModelError: the configuration does not say.
    """
    context = config.number(CONTEXT)
    if context is None:
        raise ModelError(
            f"{CONTEXT[0]} is missing",
            where=str(config.path),
            advice="Export the model again with save_pretrained",
        )
    window = config.number(("sliding_window",))
    slides = config.raw.get("use_sliding_window", True) is not False
    return min(context, window) if window is not None and slides else context


def end_tokens(folder: Path) -> frozenset[int]:
    """Return the end-of-text ids: those of ``generation_config.json``, or else ``config.json``.

    Raises:
        ModelError: one of the files is damaged.
    """
    for name in (GENERATION, CONFIG):
        if not (folder / name).is_file():
            continue
        found = read_json(folder / name).get("eos_token_id")
        listed = found if isinstance(found, list) else [found]
        ids = frozenset(each for each in listed if type(each) is int)
        if ids:
            return ids
    return frozenset()


def _check_family(config: Config) -> None:
    if len(config.classes) != 1 or config.classes[0] not in FAMILIES:
        named = ", ".join(config.classes) or config.family
        raise ModelError(
            f'no graph is known for "{named[:80]}"',
            where=str(config.path),
            allowed=", ".join(FAMILIES),
            advice=HOW_TO_EXPORT,
        )
    table = config.raw.get("rope_parameters") or config.raw.get("rope_scaling") or {}
    if not isinstance(table, dict):
        return
    kind = table.get("rope_type", table.get("type", "default"))
    takes_frequencies = FAMILIES[config.classes[0]].takes_frequencies
    allowed = _ROPES if takes_frequencies else _ROPES[:-1]
    if kind not in allowed:
        raise ModelError(
            f"rope_scaling is of the type {json.dumps(kind)[:40]}",
            where=str(config.path),
            allowed=", ".join(allowed),
            advice=HOW_TO_EXPORT,
        )
