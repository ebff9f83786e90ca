"""What becomes of an ``edge_ai_pipeline`` file in a manifest, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.errors import unknown_word
from pytest_edgeai.pipeline_file import FRAMEWORKS, SHARE, STAGES, TOP, Pipeline

FRAMEWORK_NAMES = {
    "llama_cpp": "llamacpp",
    "llama.cpp": "llamacpp",
    "llamacpp": "llamacpp",
    "openvino": "openvino",
    "microsoft_olive": "olive",
    "olive": "olive",
    "mlx": "mlx",
    "apple_mlx": "mlx",
    "onnxruntime": "onnxruntime",
    "onnx_runtime": "onnxruntime",
}
"""Their names there to ours."""

_GATES: Mapping[str, tuple[str, ...]] = {
    "model_validation.security_scan": ("artifact_security", "dependency_audit"),
    "optimization.validation.cross_validation": ("framework_agreement",),
    "testing.load_tests": ("load",),
    "testing.security_tests": ("artifact_security", "dependency_audit", "no_network"),
    "deployment.strategy: blue_green": ("rollout",),
    "deployment.traffic_ramping: gradual": ("rollout",),
    "deployment.rollback: automatic": ("rollout",),
    "stages: staging_deployment": ("rollout",),
}
"""Keys and values whose counterpart is a gate of production."""

_ALWAYS: Mapping[str, str] = {
    "model_validation.performance_baseline": "the baseline is measured beside every candidate",
    "optimization.validation.performance_comparison": "the gates speedup and memory_cut compare",
    "stages: model_validation": "the model is assessed, and every gate judges it",
    "stages: optimization": "candidates are made before they are judged",
    "stages: testing": "gates are tests",
}
"""What every run does; there is no key that asks for it, or that switches it off."""

_OWN_TESTS = "pytest runs your own tests beside the gates: name their directory"
_NOTHING: Mapping[str, str] = {
    "testing.unit_tests": _OWN_TESTS,
    "testing.integration_tests": _OWN_TESTS,
    "stages: production_deployment": "the command pytest-edgeai registry promote, in CI",
    "stages: monitoring": "nothing here watches a deployed model",
    "deployment.monitoring": "nothing here watches a deployed model; a bundle's reference.json is "
    "what drift is measured against",
}
_BARE = re.compile("[A-Za-z0-9_-]+")
_NO_SUCH_VALUE = "no gate simulates it"
_NOT_OFF = "it cannot be switched off"


@dataclass(frozen=True)
class Model:
    """The model that a pipeline file does not name.

    Attributes:
        name: of its table.
        path: as it stands in the manifest.
        task: a Hugging Face task name.
        data: as it stands in the manifest.
        calibration: likewise; empty where there is none.
    """

    name: str
    path: str
    task: str
    data: str
    calibration: str = ""


@dataclass(frozen=True)
class Mapped:
    """What became of each key of a file.

    Attributes:
        frameworks: for ``[settings]``, by our names.
        accuracy: for ``[gates]``.
        required: for ``[production]``: gate to the keys that ask for it.
        off: keys whose gates are left out because the file says so.
        always: key to what every run does about it.
        nothing: key to why it has no counterpart.
    """

    frameworks: tuple[str, ...]
    accuracy: float | None
    required: Mapping[str, Sequence[str]]
    off: tuple[str, ...]
    always: Mapping[str, str]
    nothing: Mapping[str, str]


def map_pipeline(pipeline: Pipeline, where: str) -> Mapped:
    """Return what becomes of each key.

    Args:
        pipeline: what the file says.
        where: the file, for errors.

    Raises:
        UserError: a framework is unknown.
    """
    for name in pipeline.frameworks:
        if name not in FRAMEWORK_NAMES:
            raise unknown_word(
                "framework", name, FRAMEWORK_NAMES, where=f"{where} {TOP}.{FRAMEWORKS}"
            )
    said = [(key, key, is_on) for key, is_on in pipeline.switches.items()]
    said += [(key, f"{key}: {word}", True) for key, word in pipeline.words.items()]
    said += [("stages", f"stages: {stage}", True) for stage in pipeline.stages]
    required: dict[str, list[str]] = {}
    off: list[str] = []
    always: dict[str, str] = {}
    nothing: dict[str, str] = {}
    for key, shown, is_on in said:
        if shown in _ALWAYS:
            (always if is_on else nothing)[shown] = _ALWAYS[shown] if is_on else _NOT_OFF
        elif not is_on:
            off.append(shown)
        elif shown in _GATES:
            for gate in _GATES[shown]:
                required.setdefault(gate, []).append(shown)
        else:
            nothing[shown] = _NOTHING.get(shown) or _NOTHING.get(key) or _NO_SUCH_VALUE
    if list(pipeline.stages) != sorted(pipeline.stages, key=STAGES.index):
        nothing["stages: in another order"] = (
            f"they are done as {', '.join(each for each in STAGES if each in pipeline.stages)}"
        )
    return Mapped(
        frameworks=tuple(dict.fromkeys(FRAMEWORK_NAMES[name] for name in pipeline.frameworks)),
        accuracy=pipeline.accuracy,
        required=required,
        off=tuple(off),
        always=always,
        nothing=nothing,
    )


def render_manifest(mapped: Mapped, model: Model | None, source: str) -> str:
    """Return the manifest as TOML; without a model its table is a comment to be filled in.

    Args:
        mapped: what became of each key.
        model: what the file does not say.
        source: the file's name.
    """
    lines = [f"# Made from {_comment(source)}: pytest-edgeai pipeline convert.", ""]
    if model is None:
        lines += [
            "# The file names no model. Fill this in and take the comment signs away:",
            "# [models.NAME]",
            '# path = "MODEL"',
            '# task = "TASK"',
            '# data = "DATA"',
        ]
    else:
        lines += [
            f"[models.{model.name if _BARE.fullmatch(model.name) else _text(model.name)}]",
            f"path = {_text(model.path)}",
            f"task = {_text(model.task)}",
            f"data = {_text(model.data)}",
        ]
        if model.calibration:
            lines.append(f"calibration = {_text(model.calibration)}")
    if mapped.frameworks:
        names = ", ".join(map(_text, mapped.frameworks))
        lines += ["", "[settings]", f"framework = [{names}]  # {FRAMEWORKS}"]
    if mapped.accuracy is not None:
        lines += ["", "[gates]", f"accuracy_retained = {mapped.accuracy!r}  # {SHARE}"]
    if mapped.required:
        lines += ["", "[production]", "required = ["]
        lines += [
            f"    {_text(gate)},  # {_comment(', '.join(keys))}"
            for gate, keys in mapped.required.items()
        ]
        lines.append("]")
    for title, notes in notes_of(mapped).items():
        lines += ["", f"# {title}:", *(f"# - {_comment(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def notes_of(mapped: Mapped) -> dict[str, list[str]]:
    """Return what has no key in the manifest, by why; titles without notes are left out."""
    titles = {
        "Without a counterpart": [f"{key}: {why}" for key, why in mapped.nothing.items()],
        "Switched off, as the file says": list(mapped.off),
        "In every run, without a key": [f"{key}: {why}" for key, why in mapped.always.items()],
    }
    return {title: notes for title, notes in titles.items() if notes}


def _comment(text: str) -> str:
    """Return text that ends no comment, and steers no terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _text(value: str) -> str:
    """Return a basic string of TOML (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
