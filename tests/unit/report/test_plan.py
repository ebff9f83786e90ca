"""The plan as text: complete, in the width of the terminal, in its characters."""

from __future__ import annotations

import dataclasses

import pytest
from plan_parts import (
    CHAT,
    HOST,
    IMAGES,
    WITH_GPU,
    chat_facts,
    chosen,
    classifier_facts,
    surroundings,
)

from pytest_edgeai.plan.compatibility import quantization_compatibility
from pytest_edgeai.records import LanguageModelFacts, ModelFacts, TensorSpec, Threshold
from pytest_edgeai.report.plan import (
    PlanContent,
    PlannedGate,
    PlannedModel,
    host_fields,
    model_fields,
    render_plan,
)
from pytest_edgeai.report.text import display_width

GATES = (
    PlannedGate("accuracy_retained", Threshold(0.95, "more_than"), "ratio", is_on=True),
    PlannedGate("memory_cut", Threshold(None, "at_least", "edgeai.toml"), "ratio", is_on=False),
    PlannedGate("artifact_size", Threshold(None, "at_most"), "bytes", is_on=True),
)
FRAMEWORKS = surroundings().frameworks


def content(target: str = "apple", facts: ModelFacts | None = None) -> PlanContent:
    found = facts if facts is not None else classifier_facts()
    task = CHAT if found.language else IMAGES
    choice = chosen(target, facts=found, requested=("all",), missing=("mlx",))
    return PlanContent(
        host=WITH_GPU,
        targets=[(f"{target}: a machine", ["a note", "this host is a proxy: of another kind"])],
        models=[
            PlannedModel(
                name="m",
                task=task,
                facts=found,
                path=choice.path,
                candidates=[(candidate, GATES) for candidate in choice.candidates],
                compatibility={
                    name: quantization_compatibility(found, FRAMEWORKS[name], task)
                    for name in ("mlx", "llamacpp", "onnxruntime")
                },
            )
        ],
        problems={"broken": "here path: there is no such model file"},
        warnings=["not gated for edge-tpu: openvino: does not take gguf models"],
    )


def text(plan: PlanContent, width: int = 80, *, ascii_only: bool = False) -> str:
    return "\n".join(line.text for line in render_plan(plan, width, ascii_only=ascii_only))


def flat(plan: PlanContent) -> str:
    return " ".join(text(plan).split())


def test_everything_that_was_decided_is_there() -> None:
    plan = content(facts=chat_facts())
    told = flat(plan)
    assert "host: Core, x86_64, 2 cores, 8 GiB, Linux 6.1" in told
    assert "NVIDIA H100 (gpu, 80.0 GiB; nvidia-smi)" in told
    assert "target apple: a machine a note this host is a proxy" in told
    assert "not gated for edge-tpu" in told
    assert "broken: here path: there is no such model file" in told
    assert "m: huggingface, language-model for text-generation, 1,000,000 parameters" in told
    assert "language model family llama, hidden size 256" in told
    assert "1. mlx-int4-g64: mlx is absent 2. llamacpp-q4_k_m: 4 bits" in told
    assert "candidate mlx-int4-g64 against mlx, converted at full precision" in told
    assert "not available: mlx is absent" in told
    assert "speed reads proxy here: its CPU is" in told
    assert "llamacpp q4_k_m, q8_0, q4_0, q2_k: fits" in told
    assert "onnxruntime does not take huggingface models" in told
    assert "gates of mlx-int4-g64, llamacpp-q4_k_m" in told
    assert "accuracy_retained > 95% (default)" in told
    assert "memory_cut off (edgeai.toml)" in told
    assert "artifact_size no limit (default)" in told


@pytest.mark.parametrize("width", [40, 80, 132])
@pytest.mark.parametrize("facts", [classifier_facts(), chat_facts()])
def test_no_line_is_wider_than_the_terminal(width: int, facts: ModelFacts) -> None:
    lines = render_plan(content(facts=facts), width)
    assert max(display_width(line.text) for line in lines) <= width
    assert all(line.text == line.text.rstrip() for line in lines)


def test_plain_characters_for_a_plain_terminal() -> None:
    facts = classifier_facts(notes=("a dash – and a sign ×",))
    assert text(content(facts=facts), ascii_only=True).isascii()


def test_gates_that_differ_are_told_apart() -> None:
    plan = content()
    [model] = plan.models
    [(candidate, _)] = model.candidates
    limit = PlannedGate("artifact_size", Threshold(5e7, "at_most", "x"), "bytes", is_on=True)
    other = dataclasses.replace(candidate, node="other")
    both = dataclasses.replace(model, candidates=[(candidate, GATES), (other, [limit])])
    told = flat(dataclasses.replace(plan, models=[both]))
    assert "gates of onnxruntime-int8-static accuracy_retained" in told
    assert "gates of other artifact_size ≤ 47.7 MiB (x)" in told


def test_unknown_facts_say_so() -> None:
    bare = dataclasses.replace(
        HOST, cpu_vendor="", simd=(), memory_bytes=None, accelerators=(), power_source=""
    )
    assert dict(host_fields(bare)) == {
        "vendor": "unknown",
        "INT8 features": "none known",
        "memory": "unknown",
        "accelerators": "none found",
        "power": "unknown",
    }
    empty = classifier_facts(operators={}, weight_elements={}, opset=0)
    assert dict(model_fields(empty)) == {"weights": "none", "work": "unknown"}


def test_facts_name_their_source() -> None:
    host = dataclasses.replace(
        HOST,
        sources={"cpu_vendor": "/proc/cpuinfo", "cpu_limit": "/sys/fs/cgroup/cpu.max"},
        cpu_limit=1.5,
        memory_limit_bytes=2**31,
        power_source="battery",
        battery_percent=40,
    )
    told = dict(host_fields(host))
    assert told["vendor"] == "GenuineIntel (/proc/cpuinfo)"
    assert told["container"] == "1.5 CPUs, 2.00 GiB (/sys/fs/cgroup/cpu.max)"
    assert told["power"] == "battery, 40% charged"


def test_facts_of_a_model() -> None:
    facts = classifier_facts(
        operators={f"Operator{index:02}": 12 - index for index in range(12)},
        weight_elements={"float32": 250, "int8": 750},
        inputs=(TensorSpec("x", "float32", (None, 3)), TensorSpec("s", "str", (), has_shape=False)),
        dynamic_inputs=("x",),
        flops_per_inference=2_500_000,
        bytes_per_inference=1_000_000,
        workload_note="of one image",
    )
    told = dict(model_fields(facts))
    assert told["weights"] == "75.0% int8, 25.0% float32"
    assert told["operators"].startswith("Operator00 12, Operator01 11")
    assert told["operators"].endswith("and 4 more kinds")
    assert told["inputs"] == "x float32 [?, 3], s str"
    assert told["work"] == "2.5 MFLOP, 1 MB moved, 2.5 FLOP/B; of one image"
    chat = dict(model_fields(chat_facts(language=LanguageModelFacts("llama", layers=3))))
    assert chat["tokenizer"] == "none: it takes token ids only"
    assert chat["language model"] == "family llama, 3 layers"
