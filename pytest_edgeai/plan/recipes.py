"""The default recipes, as data: by framework, class of model and presence of calibration data."""

from __future__ import annotations

from collections.abc import Mapping

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

_WITH_CALIBRATION: Mapping[str, Mapping[Architecture, Recipe]] = {
    "onnxruntime": {
        "convolutional": Recipe("onnxruntime", "int8-static", reason=STATIC_CONVOLUTIONAL),
        "transformer": Recipe("onnxruntime", "int8-dynamic", reason=DYNAMIC),
        "recurrent": Recipe("onnxruntime", "int8-dynamic", reason=DYNAMIC),
        "mixture-of-experts": Recipe("onnxruntime", "int8-dynamic", reason=DYNAMIC),
        "language-model": Recipe("onnxruntime", "int8-dynamic", reason=DYNAMIC),
        "other": Recipe(
            "onnxruntime", "int8-static", reason="static INT8 is the cross-platform default"
        ),
    },
    "openvino": {
        "convolutional": Recipe("openvino", "int8-static", reason=STATIC_CONVOLUTIONAL),
        "transformer": Recipe(
            "openvino", "int8-static", {"model_type": "transformer"}, reason=STATIC_TRANSFORMER
        ),
        "recurrent": Recipe("openvino", "int8-static", reason="NNCF post-training quantization"),
        "mixture-of-experts": Recipe("openvino", "int8-weights", reason=WEIGHTS),
        "language-model": Recipe("openvino", "int8-weights", reason=WEIGHTS),
        "other": Recipe("openvino", "int8-static", reason="NNCF post-training quantization"),
    },
}
_WITHOUT_CALIBRATION: Mapping[str, Recipe] = {
    "onnxruntime": Recipe("onnxruntime", "int8-dynamic", reason=NO_CALIBRATION),
    "openvino": Recipe("openvino", "int8-weights", reason=NO_CALIBRATION),
}
NEEDS_CALIBRATION = frozenset({"int8-static"})


def default_recipes(
    framework: str, architecture: Architecture, *, calibrated: bool
) -> tuple[Recipe, ...]:
    """Return the recipes that ``framework`` makes of a model where nobody chose; empty for none."""
    if not calibrated:
        recipe = _WITHOUT_CALIBRATION.get(framework)
        return (recipe,) if recipe else ()
    by_architecture = _WITH_CALIBRATION.get(framework)
    if by_architecture is None:
        return ()
    return (by_architecture.get(architecture, by_architecture["other"]),)
