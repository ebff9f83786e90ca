"""Conversion of Hugging Face models to mlx-lm directories, and mlx-lm's weight quantization."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path

from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.mlx_load import Source, build_network, read_source
from pytest_edgeai.optimize.frameworks.support import Options, Report, listed, one_line

GROUP_SIZE = 64
"""Weights that share a scale and a bias; what ``g64`` in the schemes' names stands for."""

CONVERT = "convert"
_BITS = {"int4-g64": 4, "int8-g64": 8, "mixed-4-6": 4}
_MIXED = {"mixed-4-6": "mixed_4_6"}
_SCHEMES = (CONVERT, *_BITS)
_KEEP = "source"
_DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def optimize(request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact: a directory of ``config.json``, safetensors and the tokenizer's files.

    Schemes: ``convert`` (the source's own precision), ``int4-g64`` and ``int8-g64`` (every layer
    with rows of a multiple of 64, embeddings included), ``mixed-4-6`` (mlx-lm's ``mixed_4_6``: 6
    bits for the values and down projections of some blocks and for the output layer).

    The option ``dtype`` names the type of whatever is not quantized, scales included, which is also
    what activations are computed in: ``source``, ``float32``, ``float16`` or ``bfloat16``. By
    default it is the source's, and ``float32`` for quantized weights on a CPU, whose kernels for
    16-bit types are many times slower.

    Returns:
        The directory as ``path``.

    Raises:
        ModelError: mlx-lm cannot take this model or recipe; says why.
    """
    scheme = request.recipe.scheme
    if scheme not in _SCHEMES:
        raise ModelError(
            f'mlx has no scheme "{scheme}"',
            allowed=", ".join(_SCHEMES),
            advice=did_you_mean(scheme, _SCHEMES),
        )
    options = Options(request.recipe)
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    default = "float32" if on_cpu and scheme in _BITS else _KEEP
    dtype = options.choice("dtype", default, (_KEEP, *_DTYPES))
    options.finish()
    source = read_source(request.source)
    if source.quantization:
        raise ModelError(
            f"the weights are quantized already ({source.quantization})",
            where=str(request.source),
            allowed="weights of full precision",
        )
    with Report(("", "mlx_lm")) as report, _printed(report):
        progress("reading", 0.0)
        network = build_network(source, lazy=True)
        config = _cast(network, dict(source.config), dtype, report)
        if scheme in _BITS:
            progress("quantizing", 0.1)
            config = _quantize(network, config, request, report)
        progress("saving", 0.5)
        _save(network, config, source, request)
        progress("done", 1.0)
    return OptimizeResult(request.output, tuple(report.lines))


def _cast(network: Any, config: dict[str, Any], dtype: str, report: Report) -> dict[str, Any]:
    """Convert floating weights to ``dtype``, but those that the family wants as they are."""
    found = Counter(_name(value) for _, value in _floating(network))
    if dtype == _KEEP or set(found) == {dtype}:
        report.add(f"tensors stay {listed(found)}")
        return config
    wanted = _DTYPES[dtype]
    may_cast: Callable[[str], bool] = getattr(network, "cast_predicate", lambda _: True)

    def cast(name: str, value: Any) -> Any:
        is_cast = mx.issubdtype(value.dtype, mx.floating) and may_cast(name)
        return value.astype(wanted) if is_cast else value

    network.update(tree_map_with_path(cast, network.parameters()))
    report.add(f"tensors were {listed(found)}, and are {dtype} where they are not quantized")
    # transformers 4 wrote "torch_dtype" and 5 writes "dtype".
    return {**config, **{key: dtype for key in ("torch_dtype", "dtype") if key in config}}


def _quantize(
    network: Any, config: dict[str, Any], request: OptimizeRequest, report: Report
) -> dict[str, Any]:
    # As mlx_lm/__init__.py does; else transformers reports that there is no torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from mlx_lm.convert import mixed_quant_predicate_builder
    from mlx_lm.utils import quantize_model

    scheme = request.recipe.scheme
    before = _matrices(network)
    try:
        predicate = None
        if scheme in _MIXED:
            predicate = mixed_quant_predicate_builder(_MIXED[scheme], network, GROUP_SIZE)
        _, config = quantize_model(
            network, config, GROUP_SIZE, _BITS[scheme], mode="affine", quant_predicate=predicate
        )
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(
            f"mlx-lm cannot make {scheme} of this model: {type(error).__name__}: {one_line(error)}",
            where=str(request.source),
        ) from error
    quantized = {path: module for path, module in network.named_modules() if "scales" in module}
    left = {path: shape for path, shape in before.items() if path not in quantized}
    if not quantized:
        raise ModelError(
            f"nothing was quantized; no layer has rows of a multiple of {GROUP_SIZE}",
            where=str(request.source),
        )
    bits = Counter(f"int{module.bits}" for module in quantized.values())
    report.add(f"quantized layers: {listed(bits)}")
    for path, shape in left.items():
        report.add(f"not quantized: {path}, of shape {list(shape)}")
    return config


def _save(network: Any, config: dict[str, Any], source: Source, request: OptimizeRequest) -> None:
    from mlx_lm.utils import save_config, save_model

    save_model(request.output, network, donate_model=True)
    save_config(config, request.output / "config.json")
    # Copied as they are: saving them with transformers would rewrite what they say.
    for file in source.companions:
        shutil.copyfile(file, request.output / file.name)


def _matrices(network: Any) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the weights that a quantizer could take, by module."""
    return {
        path: tuple(module.weight.shape)
        for path, module in network.named_modules()
        if hasattr(module, "to_quantized")
    }


def _floating(network: Any) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in tree_flatten(network.parameters())
        if mx.issubdtype(value.dtype, mx.floating)
    ]


def _name(value: Any) -> str:
    return str(value.dtype).rpartition(".")[2]


@contextlib.contextmanager
def _printed(report: Report) -> Any:
    """Keep what mlx-lm prints as lines of the report."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            report.add(line.removeprefix("[INFO] "))
