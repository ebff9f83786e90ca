"""Rules for candidates that lost accuracy: classes, outputs, layers and bits."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_lines import model_lines
from pytest_edgeai.judge.advice_situation import QUALITY_GATES, Rule, Situation, figures, names
from pytest_edgeai.judge.advice_words import loss_text, replaced
from pytest_edgeai.judge.verdict import count_text, list_text, percent_text

BLAMED_SHARE = 0.5
"""Share of the noise that a few layers must make to be blamed."""
FEW_LAYERS_SHARE = 0.25
HIGHEST_LAYER_WEIGHT = 0.65
MORE_BITS: Mapping[str, Mapping[str, str]] = {
    "llamacpp": {"q2_k": "q4_k_m", "q4_0": "q4_k_m", "q4_k_m": "q8_0"},
    "mlx": {"int4-g64": "mixed-4-6", "mixed-4-6": "int8-g64"},
    "olive": {"int4-genai": "int8-genai"},
    "openvino": {"int4-weights": "int8-weights"},
}
"""Framework to the scheme that stores weights in the next more bits."""


def _class_lost(s: Situation) -> Advice | None:
    lost = s.failed("slice_retained", "output_sanity")
    collapsed = s.sanity.collapsed_classes if s.sanity is not None else ()
    named = [f'class "{name}"' for name in collapsed]
    for verdict in s.failed("slice_retained"):
        for division, parts in verdict.details.get("divisions", {}).items():
            of = "class" if division == "classes" else division
            failed = (name for name, part in parts.items() if part.get("decision") == "fail")
            named += [text for name in failed if (text := f'{of} "{name}"') not in named]
    gates = tuple(v for v in lost if v.gate == "slice_retained" or collapsed)
    if not gates or not named or s.calibration is None or not s.is_static:
        return None
    remark = f"with samples of {list_text(named, 3)}"
    return Advice(
        "class-lost",
        f"{list_text(named, 3)}: hardly recognized any more",
        f"{list_text(names(gates))} found it on samples that the baseline recognizes; the ranges "
        f"come from {count_text(s.calibration.samples, 'calibration sample')}",
        f"calibrate {remark}, as many as of the others",
        model_lines(s.model, "calibration", s.calibration.source, remark),
        {**figures(gates), "lost": named, "calibration_samples": s.calibration.samples},
        None,
        0.45,
        names(gates),
    )


def _not_finite_outputs(s: Situation) -> Advice | None:
    failed = s.failed("output_sanity")
    if not failed or s.sanity is None:
        return None
    found = {
        name: s.sanity.nan_outputs.get(name, 0) + s.sanity.inf_outputs.get(name, 0)
        for name in dict.fromkeys((*s.sanity.nan_outputs, *s.sanity.inf_outputs))
    }
    count = sum(found.values())
    if not count:
        return None
    recipe = None
    half = s.recipe.options.get("dtype") == "float16"
    if half:
        recipe = s.with_options("float32", dtype="float32")
    lines, fix = replaced(s, recipe)
    what = list_text(name for name, each in found.items() if each)
    return Advice(
        "outputs-not-finite",
        f"{count_text(count, 'element')} of the outputs {what} are NaN or infinite",
        "they are numbers in the baseline's outputs for the same samples"
        + (", and float16 holds nothing above 65,504" if half else ""),
        "compute in float32"
        if half
        else "keep the layers before that output at full precision: the report of "
        "--edge-fix ranks them",
        lines,
        {**figures(failed), "not_finite": found},
        fix,
        0.9 if half else 0.5,
        names(failed),
    )


def blamed_layers(s: Situation) -> tuple[list[str], float]:
    """Return the few layers that make most of the noise, and their share of it.

    None where it takes more than a quarter of the layers to make half of the noise.
    """
    layers = s.sensitivity.layers if s.sensitivity is not None else ()
    total = sum(layer.noise_ratio for layer in layers)
    if not total > 0:
        return [], 0.0
    most = max(1, int(FEW_LAYERS_SHARE * len(layers)))
    chosen: list[str] = []
    noise = 0.0
    for layer in layers[:most]:
        chosen.append(layer.layer)
        noise += layer.noise_ratio
        if noise >= 0.8 * total:
            break
    share = noise / total
    return (chosen, share) if share >= BLAMED_SHARE else ([], share)


def _sensitive_layers(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    chosen, share = blamed_layers(s)
    if not lost or s.sensitivity is None or not chosen or not s.layer_option:
        return None
    if len(chosen) == len(s.sensitivity.layers):
        # Nothing would be left to quantize.
        return None
    known = list(s.recipe.options.get(s.layer_option, ()))
    option = {s.layer_option: [*known, *(name for name in chosen if name not in known)]}
    lines, fix = replaced(s, s.with_options("keeps-layers", **option))
    if fix is None:
        return None
    return Advice(
        "sensitive-layers",
        loss_text(s),
        f"of {len(s.sensitivity.layers)} quantized layers, {list_text(chosen, 3)} "
        f"{'makes' if len(chosen) == 1 else 'make'} {percent_text(share)} of the error at the "
        "outputs",
        f"keep {'it' if len(chosen) == 1 else 'them'} at full precision: {list_text(chosen, 3)}",
        lines,
        {
            **figures(lost),
            "layers": chosen,
            "share_of_noise": share,
            "noise_ratio": s.sensitivity.all_layers_noise_ratio,
        },
        fix,
        # Layers at full precision cost speed: what mends the quantization itself comes first.
        HIGHEST_LAYER_WEIGHT - 0.3 * (1 - share),
        names(lost),
    )


def _no_layer_to_blame(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    if not lost or s.sensitivity is None or len(s.sensitivity.layers) < 2:
        return None
    chosen, share = blamed_layers(s)
    if chosen or not share:
        return None
    recipe = s.with_scheme("int8-weights") if s.is_static else None
    lines, fix = replaced(s, recipe)
    return Advice(
        "no-layer-to-blame",
        loss_text(s),
        f"the error is spread: a quarter of the {len(s.sensitivity.layers)} layers makes only "
        f"{percent_text(share)} of it, so that keeping a few at full precision does not help",
        "retrain the model with quantization in the loop (QAT)"
        + (", or compress the weights alone" if recipe else ""),
        lines,
        {**figures(lost), "share_of_noise": share, "layers": len(s.sensitivity.layers)},
        fix,
        0.5,
        names(lost),
    )


def _too_few_bits(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    steps = MORE_BITS.get(s.recipe.framework, {})
    scheme = steps.get(s.recipe.scheme, "")
    is_widest = not scheme and s.recipe.scheme in steps.values()
    recipe = s.with_scheme(scheme) if scheme else None
    if not lost or s.precision is None or not (recipe or is_widest):
        return None
    stored = s.weight_bytes()
    if not stored:
        return None
    narrow = max(stored, key=lambda name: stored[name])
    lines, fix = replaced(s, recipe)
    return Advice(
        "too-few-bits",
        loss_text(s),
        f"{percent_text(stored[narrow] / sum(stored.values()))} of its weights' bytes are {narrow}",
        f"store the weights in more bits: {scheme}"
        if recipe
        else "fine-tune the model after quantizing it: its framework stores no more bits",
        lines,
        {**figures(lost), "scheme": s.recipe.scheme, "weight_bytes": stored},
        fix,
        0.75,
        names(lost),
    )


RULES = (
    Rule(
        "class-lost",
        "A class or slice is hardly recognized any more: calibrate with samples of it.",
        _class_lost,
        "the gates slice_retained or output_sanity",
    ),
    Rule(
        "outputs-not-finite",
        "Outputs are NaN or infinite where the baseline's are numbers: compute in float32, or "
        "keep the last layers.",
        _not_finite_outputs,
        "the outputs",
    ),
    Rule(
        "sensitive-layers",
        "A few layers make most of the error: keep them at full precision.",
        _sensitive_layers,
        "the sensitivity of each layer, which --edge-fix measures",
    ),
    Rule(
        "no-layer-to-blame",
        "The error is spread over the layers: retrain, or compress the weights alone.",
        _no_layer_to_blame,
        "the sensitivity of each layer, which --edge-fix measures",
    ),
    Rule(
        "too-few-bits",
        "The weights are stored in too few bits: take the scheme with the next more; with none, "
        "fine-tune after quantizing.",
        _too_few_bits,
        "the artifact's weights",
    ),
)
