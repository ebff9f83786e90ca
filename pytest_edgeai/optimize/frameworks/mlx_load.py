"""Networks of mlx-lm from a Hugging Face directory, without the rest of mlx-lm.

``import mlx_lm`` brings transformers (3 s, 258 MiB), which neither loading nor running a network
needs. Source of what is done here: ``load_model`` of ``mlx_lm/utils.py``.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.support import one_line

PACKAGE = "mlx_lm"
_FAMILY = re.compile(r"[A-Za-z0-9_\-]+")


@dataclasses.dataclass(frozen=True)
class Source:
    """A directory that was checked: its weights are whole and agree with its configuration.

    Attributes:
        path: the directory.
        config: ``config.json``.
        weight_files: the ``.safetensors`` files.
        companions: tokenizer, chat template and generation settings, whichever there are.
        quantization: the scheme that the weights are stored in; empty for plain weights.
        context_length: longest sequence of the model; ``None`` where it states none.
    """

    path: Path
    config: Mapping[str, Any]
    weight_files: tuple[Path, ...]
    companions: tuple[Path, ...]
    quantization: str
    context_length: int | None


def read_source(path: Path) -> Source:
    """Read and check a Hugging Face directory; its weights are not read.

    Raises:
        ModelError: there is no such directory, a file of it is missing or damaged, the
            configuration contradicts the weights, or mlx-lm cannot take it.
    """
    if not path.is_dir():
        raise ModelError(
            "there is no such directory",
            where=str(path),
            allowed="a Hugging Face model: config.json and *.safetensors",
        )
    structure = read_structure(path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if structure.quantization and "quantization" not in config:
        raise ModelError(
            f"the weights are quantized already ({structure.quantization})",
            where=str(path),
            allowed="weights of full precision, or quantized by MLX",
        )
    if config.get("model_file") is not None:
        raise ModelError(
            f"the model brings code of its own ({config['model_file']}), which is not run",
            where=str(path / "config.json"),
        )
    weights = tuple(file for file in structure.files if file.suffix == ".safetensors")
    language = structure.language
    others = {"config.json", "model.safetensors.index.json", *(file.name for file in weights)}
    return Source(
        path,
        config,
        weights,
        tuple(file for file in structure.files if file.name not in others),
        structure.quantization,
        language.context_length if language is not None else None,
    )


def build_network(source: Source, *, lazy: bool = False) -> Any:
    """Return the network with its weights, a ``mlx.nn.Module``.

    Args:
        source: a directory that was checked.
        lazy: whether a weight is read when it is first used; otherwise all are in memory.

    Raises:
        ModelError: mlx-lm does not know the family, or the weights do not fit the network.
    """
    _prepare()
    module = _family(source)
    _check_keys(module.ModelArgs, source)
    try:
        network = module.Model(module.ModelArgs.from_dict(dict(source.config)))
        weights: dict[str, Any] = {}
        for file in source.weight_files:
            stored: Any = mx.load(str(file))
            weights.update(stored)
        if hasattr(network, "sanitize"):
            weights = network.sanitize(weights)
        _quantized_layers(network, source.config.get("quantization"), weights)
        network.eval()
        network.load_weights(list(weights.items()), strict=True)
        del weights, stored
        if not lazy:
            mx.eval(network.parameters())
    except MemoryError:
        raise
    except Exception as error:  # mlx and the families' classes raise whatever they meet
        raise ModelError(
            f"mlx-lm cannot build the model: {type(error).__name__}: {one_line(error)[:300]}",
            where=str(source.path),
            advice="The configuration and the weights may be of different models",
        ) from error
    return network


def null_network() -> Any:
    """Return a Llama of one block with random weights."""
    _prepare()
    from mlx_lm.models import llama

    arguments = llama.ModelArgs(
        model_type="llama",
        hidden_size=64,
        num_hidden_layers=1,
        intermediate_size=64,
        num_attention_heads=1,
        rms_norm_eps=1e-5,
        vocab_size=64,
    )
    network = llama.Model(arguments)
    network.eval()
    mx.eval(network.parameters())
    return network


@functools.cache
def _prepare() -> None:
    """Make ``mlx_lm.models`` importable without what ``mlx_lm/__init__.py`` imports."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    sys.modules.setdefault(PACKAGE, importlib.util.module_from_spec(spec))
    if not mx.is_available(mx.gpu):
        # To fuse operators the CPU backend runs g++ while a model runs, where there is one: seconds
        # in each worker, for the same numbers at the same speed.
        mx.disable_compile()


def _family(source: Source) -> Any:
    """Return the module of mlx-lm that implements the model's family."""
    family = str(source.config["model_type"])
    name = family
    if _FAMILY.fullmatch(name) and not _is_module(name):
        name = _other_names().get(name, name)
    if not (_FAMILY.fullmatch(name) and _is_module(name)):
        raise _unknown(source, family)
    try:
        module = importlib.import_module(f"{PACKAGE}.models.{name}")
    except ImportError as error:
        raise ModelError(
            f'mlx-lm cannot import its family "{name}": {one_line(error)}', where=str(source.path)
        ) from error
    if not (hasattr(module, "Model") and hasattr(module, "ModelArgs")):
        raise _unknown(source, family)
    return module


def _check_keys(arguments: Any, source: Source) -> None:
    """Refuse a configuration without a key that the family cannot do without."""
    if not dataclasses.is_dataclass(arguments):
        return
    missing = [
        field.name
        for field in dataclasses.fields(arguments)
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in source.config
    ]
    if missing:
        raise ModelError(
            f"mlx-lm needs the keys {', '.join(missing)} for the model_type "
            f'"{source.config["model_type"]}"',
            where=str(source.path / "config.json"),
            advice="Export the model again with save_pretrained",
        )


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(f"{PACKAGE}.models.{name}") is not None


def _other_names() -> dict[str, str]:
    """Return mlx-lm's table of families that share another's implementation.

    Read from the source, because the module that holds it imports transformers.
    """
    spec = importlib.util.find_spec(f"{PACKAGE}.utils")
    if spec is None or spec.origin is None:
        return {}
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "MODEL_REMAPPING"
            for target in statement.targets
        ):
            table: dict[str, str] = ast.literal_eval(statement.value)
            return table
    return {}


def _unknown(source: Source, family: str) -> ModelError:
    models = importlib.import_module(f"{PACKAGE}.models")
    found = (module.name for module in pkgutil.iter_modules(models.__path__))
    known = [name for name in found if name != family]
    return ModelError(
        f'mlx-lm has no model_type "{family[:64]}"',
        where=str(source.path / "config.json"),
        advice=did_you_mean(family, known) or "A newer mlx-lm may have it",
    )


def _quantized_layers(
    network: Any, quantization: Mapping[str, Any] | None, weights: Mapping[str, Any]
) -> None:
    """Replace the layers whose weights are stored packed."""
    if quantization is None:
        return

    def parameters(path: str, module: Any) -> Any:
        if path in quantization:
            return quantization[path]
        return hasattr(module, "to_quantized") and f"{path}.scales" in weights

    nn.quantize(
        network,
        group_size=quantization["group_size"],
        bits=quantization["bits"],
        mode=quantization.get("mode", "affine"),
        class_predicate=parameters,
    )
