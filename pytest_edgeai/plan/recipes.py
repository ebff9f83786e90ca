"""The default recipes, as data: by framework, class of model and presence of calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_edgeai.records import Architecture, Recipe

STATIC_CONVOLUTIONAL = (
    "INT8 weights and activations suit convolutions; ranges come from calibration data"
)
STATIC_TRANSFORMER = (
    "INT8 post-training quantization in NNCF's transformer mode, which keeps attention sound"
)
DYNAMIC = "activation ranges of transformers vary by input, so they are found while running"
WEIGHTS = "generation is bound by reading weights, so the weights alone are compressed"
NO_CALIBRATION = "the manifest names no calibration data, which static quantization needs"
POST_TRAINING = "NNCF post-training quantization"
STATIC = "static INT8 is the cross-platform default"
K_QUANT = "4 bits in blocks of 256, with 6 bits where it matters: llama.cpp's usual choice"
GROUPS = "4 bits in groups of 64: unified memory is read half as often as with 8 bits"
INT4 = "generation is bound by reading weights, so they are stored in 4 bits"

_GENERATORS: tuple[Architecture, ...] = ("language-model", "mixture-of-experts")
_DYNAMIC_CLASSES: tuple[Architecture, ...] = ("transformer", "recurrent", *_GENERATORS)


@dataclass(frozen=True)
class Default:
    """One row of the table of defaults.

    Attributes:
        scheme: the scheme.
        reason: why, for the reader of the plan.
        classes: the classes of models that it is for; empty: every class.
        options: its options.
        uncalibrated: whether it stands in where there is no calibration data.
    """

    scheme: str
    reason: str
    classes: tuple[Architecture, ...] = ()
    options: Mapping[str, str] | None = None
    uncalibrated: bool = False


_ONNX = (
    Default("int8-static", STATIC_CONVOLUTIONAL, ("convolutional",)),
    Default("int8-dynamic", DYNAMIC, _DYNAMIC_CLASSES),
    Default("int8-static", STATIC),
)
DEFAULTS: Mapping[str, tuple[Default, ...]] = {
    "onnxruntime": (*_ONNX, Default("int8-dynamic", NO_CALIBRATION, uncalibrated=True)),
    "olive": (
        Default("int4-genai", INT4, _GENERATORS),
        *_ONNX,
        Default("int8-dynamic", NO_CALIBRATION, uncalibrated=True),
    ),
    "openvino": (
        Default("int8-weights", WEIGHTS, _GENERATORS),
        Default("int8-static", STATIC_CONVOLUTIONAL, ("convolutional",)),
        Default("int8-static", STATIC_TRANSFORMER, ("transformer",), {"model_type": "transformer"}),
        Default("int8-static", POST_TRAINING),
        Default("int8-weights", NO_CALIBRATION, uncalibrated=True),
    ),
    "llamacpp": (Default("q4_k_m", K_QUANT),),
    "mlx": (Default("int4-g64", GROUPS),),
}
"""Framework to its defaults, the preferred one first."""
NEEDS_CALIBRATION = frozenset({"int8-search", "int8-static"})


def default_recipes(
    framework: str, architecture: Architecture, *, calibrated: bool
) -> tuple[Recipe, ...]:
    """Return the recipes that ``framework`` makes of a model where nobody chose, by preference.

    The first one that the model fits is what a session makes; empty for an unknown framework.

    Args:
        framework: name of the framework.
        architecture: class of the model.
        calibrated: whether there is calibration data; without, no recipe needs any.
    """
    recipes: dict[str, Recipe] = {}
    for row in DEFAULTS.get(framework, ()):
        if row.classes and architecture not in row.classes:
            continue
        if row.uncalibrated if calibrated else row.scheme in NEEDS_CALIBRATION:
            continue
        recipe = Recipe(framework, row.scheme, dict(row.options or {}), reason=row.reason)
        recipes.setdefault(recipe.id, recipe)
    return tuple(recipes.values())
