"""Facts of models and hosts, so that every decision can be asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.selection import Choice, Surroundings, choose
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.records import Accelerator, HostFacts, LanguageModelFacts, ModelFacts
from pytest_edgeai.specification import DataSource, ModelSpec

CHAT = "text-generation"
IMAGES = "image-classification"

HOST = HostFacts(
    hostname="bench",
    system="Linux 6.1",
    architecture="x86_64",
    cpu_vendor="GenuineIntel",
    cpu_model="Core",
    logical_cores=2,
    memory_bytes=2**33,
    simd=("avx512_vnni",),
    virtualization="",
    sources={},
)
MAC = dataclasses.replace(
    HOST,
    system="Darwin 25.0",
    architecture="arm64",
    cpu_vendor="Apple",
    cpu_model="Apple M4",
    accelerators=(Accelerator("gpu", "Apple", "Apple M4", None, "ioreg"),),
)
PHONE = dataclasses.replace(
    HOST,
    architecture="aarch64",
    cpu_vendor="Qualcomm",
    cpu_model="Kryo",
    accelerators=(Accelerator("npu", "Qualcomm", "Hexagon", None, "/dev/fastrpc-cdsp"),),
)
WITH_GPU = dataclasses.replace(
    HOST, accelerators=(Accelerator("gpu", "NVIDIA", "NVIDIA H100", 80 * 2**30, "nvidia-smi"),)
)
WITH_TPU = dataclasses.replace(
    HOST, accelerators=(Accelerator("tpu", "Google", "Edge TPU (USB)", None, "/sys/bus/usb"),)
)


def classifier_facts(**changes: Any) -> ModelFacts:
    """Return the facts of a convolutional ONNX classifier."""
    facts = ModelFacts(
        path=Path("model.onnx"),
        format="onnx",
        sha256="",
        size_bytes=4_000_000,
        files=(),
        opset=17,
        inputs=(),
        outputs=(),
        operators={"Conv": 4, "Gemm": 1, "Relu": 4},
        parameters=1_000_000,
        weight_elements={"float32": 1_000_000},
        architecture="convolutional",
    )
    return dataclasses.replace(facts, **changes)


def chat_facts(**changes: Any) -> ModelFacts:
    """Return the facts of a Llama in a Hugging Face directory, with rows of 256 and 512."""
    defaults: dict[str, Any] = {
        "path": Path("model"),
        "format": "huggingface",
        "opset": 0,
        "operators": {},
        "architecture": "language-model",
        "language": LanguageModelFacts("llama", hidden_size=256, tokenizer="tokenizer.json"),
        "row_elements": {256: 750_000, 512: 250_000},
    }
    return classifier_facts(**{**defaults, **changes})


def model_spec(task: str = IMAGES, *, calibrated: bool = True, **changes: Any) -> ModelSpec:
    """Return the manifest's table of a model."""
    source = DataSource(Path("data.npz"), None, "data")
    spec = ModelSpec(
        name="m",
        path=Path("model.onnx"),
        task=task,
        data=source,
        calibration=source if calibrated else None,
        metric="accuracy",
        baseline="native",
        targets=None,
        gates={},
        recipes=None,
        output=None,
        classes=None,
        batch=1,
        where="here",
    )
    return dataclasses.replace(spec, **changes)


def surroundings(*, missing: tuple[str, ...] = (), **changes: Any) -> Surroundings:
    """Return what a choice depends on; ``missing`` names frameworks that are not installed."""
    defaults: dict[str, Any] = {
        "frameworks": FRAMEWORKS,
        "requested": ("primary",),
        "choose_recipes": lambda *arguments: None,
        "missing": lambda name: f"{name} is absent" if name in missing else "",
        "host": HOST,
    }
    return Surroundings(**{**defaults, **changes})


def chosen(
    target: str = "intel",
    *,
    facts: ModelFacts | None = None,
    model: ModelSpec | None = None,
    **around: Any,
) -> Choice:
    """Choose for a target; by default for a classifier of images with calibration data."""
    found = facts if facts is not None else classifier_facts()
    task = CHAT if found.language is not None else IMAGES
    spec = model if model is not None else model_spec(task)
    return choose(spec, found, TARGETS[target], surroundings(**around))
