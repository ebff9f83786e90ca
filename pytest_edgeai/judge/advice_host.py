"""Rules for what lies in the host, its accelerators and the tools that are installed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_lines import setting_lines
from pytest_edgeai.judge.advice_situation import (
    PRECISION_GATE,
    SPEED_GATES,
    Rule,
    Situation,
    figures,
    names,
)
from pytest_edgeai.judge.advice_words import replaced, slow_text
from pytest_edgeai.judge.verdict import list_text

TYPES_REFUSED = "support data format"
"""What ONNX Runtime's quantization says of int8 activations with uint8 weights."""
TYPE_OPTIONS = ("activation_type", "weight_type")
_CPU = ("CPU", "CPUEXECUTIONPROVIDER")


@dataclass(frozen=True)
class Defect:
    """A version that is known not to work with another.

    Attributes:
        scheme: part of the schemes that meet it.
        broken: distributions, each with the starts of the versions that it happens with.
        told: part of the error.
        remedy: what to install.
    """

    scheme: str
    broken: tuple[tuple[str, tuple[str, ...]], ...]
    told: str
    remedy: str


DEFECTS = (
    Defect(
        "-genai",
        (("olive-ai", ("0.13",)), ("onnxruntime-genai", ("0.18",))),
        "quantized_model",
        "install onnxruntime-genai 0.14.0 into an interpreter of its own, and name that under "
        "[frameworks.olive] python",
    ),
    Defect(
        "-weights",
        (("optimum-intel", ("2.2",)), ("transformers", ("5.6", "5.7", "5.8", "5.9"))),
        "optimum",
        "install transformers below 5.6 into an interpreter of its own, and name that under "
        "[frameworks.openvino] python",
    ),
)
"""Seen with olive-ai 0.13.0, which works with onnxruntime-genai 0.14.0, and stated by optimum-intel
2.2, which requires transformers below 5.6."""


def _on_cpu(s: Situation) -> bool:
    devices = s.precision.executed_devices if s.precision is not None else ()
    return bool(devices) and all(name.upper() in _CPU for name in devices)


def _accelerator_unused(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    if not slow or not s.host.accelerators or not _on_cpu(s):
        return None
    there = {each.vendor for each in s.host.accelerators}
    able = [
        name
        for name, vendors in s.accelerated_by.items()
        if name != s.recipe.framework and there & set(vendors)
    ]
    found = list_text(f"{each.vendor} {each.name}" for each in s.host.accelerators)
    lines = setting_lines({"framework": able[:1]}) if able else ()
    remedy = f"make the candidate with {able[0]}, which computes on it" if able else ""
    return Advice(
        "accelerator-unused",
        slow_text(s),
        f"this host has {found}, and the runtime executes on "
        f"{list_text(s.precision.executed_devices if s.precision is not None else ())}",
        remedy or "add a framework that computes on it, by the hook pytest_edgeai_frameworks",
        lines,
        {**figures(slow), "accelerators": [each.name for each in s.host.accelerators]},
        None,
        0.6 if able else 0.2,
        names(slow),
    )


def _device_not_used(s: Situation) -> Advice | None:
    failed = s.failed(PRECISION_GATE)
    if not failed or s.precision is None:
        return None
    claimed = s.precision.claimed_device.upper()
    if claimed.split(":")[0] in (*_CPU, "AUTO", "MULTI", "HETERO") or not _on_cpu(s):
        return None
    return Advice(
        "device-not-used",
        f"precision_proof failed: {s.precision.claimed_device} was asked for",
        f"the runtime executes on {list_text(s.precision.executed_devices)}",
        f"install the driver and the runtime's own package for {s.precision.claimed_device}, or "
        "gate the CPU",
        (),
        {
            "claimed_device": s.precision.claimed_device,
            "executed_devices": list(s.precision.executed_devices),
        },
        None,
        0.9,
        names(failed),
    )


def _metal_off(s: Situation) -> Advice | None:
    missed = tuple(
        s.verdicts[gate] for gate in SPEED_GATES if s.outcome(gate) in ("fail", "inconclusive")
    )
    if not missed or s.recipe.framework != "mlx" or not _on_cpu(s):
        return None
    on_mac = s.host.system.startswith("Darwin")
    return Advice(
        "metal-off",
        f"{list_text(names(missed))}: not passed",
        f"MLX executes on the CPU here ({s.host.system}), with reference kernels that are bound by "
        "computing: fewer bits gain nothing",
        "run it with Metal: an arm64 Python of macOS 14 or newer, outside of a virtual machine"
        if on_mac
        else "gate its speed on Apple silicon; here quality, memory and size count",
        (),
        {
            **figures(missed),
            "executed_devices": list(s.precision.executed_devices if s.precision else ()),
            "system": s.host.system,
        },
        None,
        0.9,
        names(missed),
    )


def _known_defect(s: Situation) -> Advice | None:
    errors = tuple(v for v in s.verdicts.values() if v.outcome == "error")
    for defect in DEFECTS:
        told = tuple(v for v in errors if defect.told in v.reason)
        meets = defect.scheme in s.recipe.scheme and all(
            s.versions.get(name, "").startswith(starts) for name, starts in defect.broken
        )
        if told and meets:
            installed = {name: s.versions[name] for name, _ in defect.broken}
            found = list_text(f"{name} {version}" for name, version in installed.items())
            return Advice(
                "versions-known-to-fail",
                f"{list_text(names(told))}: could not be measured",
                f"{found} are installed, which are known to fail together",
                defect.remedy,
                (),
                {"versions": installed, "reason": told[0].reason[:200]},
                None,
                0.95,
                names(told),
            )
    return None


def _types_refused(s: Situation) -> Advice | None:
    errors = tuple(v for v in s.verdicts.values() if v.outcome == "error")
    told = tuple(v for v in errors if TYPES_REFUSED in v.reason)
    asked = {name: s.recipe.options[name] for name in TYPE_OPTIONS if name in s.recipe.options}
    recipe = s.with_options("default-types", **dict.fromkeys(asked)) if asked else None
    if not told or recipe is None:
        return None
    lines, fix = replaced(s, recipe)
    return Advice(
        "types-refused",
        f"{list_text(names(told))}: no artifact was made",
        f"the tool has no format for these types: "
        f"{list_text(f'{name} {kind}' for name, kind in asked.items())}",
        "quantize to the types that it takes by itself: uint8 activations, int8 weights",
        lines,
        {"options": asked, "told": told[0].reason[-200:]},
        fix,
        0.95,
        names(told),
    )


def _slow_start(s: Situation) -> Advice | None:
    failed = s.failed("recovery")
    limit = failed[0].threshold if failed else None
    if not failed or limit is None:
        return None
    scenarios = failed[0].details.get("scenarios", {})
    if any(each.get("wrong") or each.get("faults") for each in scenarios.values()):
        return None
    late = {
        name: each["counted_s"]
        for name, each in scenarios.items()
        if each.get("counted_s") is not None and each["counted_s"] > limit
    }
    if not late or not all(math.isfinite(seconds) for seconds in late.values()):
        return None
    shown = list_text(f"{name} {seconds:.1f} s" for name, seconds in late.items())
    return Advice(
        "slow-start",
        f"recovery: right answers came later than {limit:g} s",
        f"a new process answered late: {shown}",
        "let it start from a compiled model: OpenVINO's model cache (CACHE_DIR), or ONNX Runtime's "
        "optimized model saved once",
        (),
        {"seconds": late, "limit_s": limit},
        None,
        0.6,
        names(failed),
    )


RULES = (
    Rule(
        "accelerator-unused",
        "The host has an accelerator and the CPU computes: choose a framework that uses it.",
        _accelerator_unused,
        "the devices that the runtime executes on",
    ),
    Rule(
        "device-not-used",
        "A device was asked for and the CPU computes: install its driver.",
        _device_not_used,
        "the devices that the runtime executes on",
    ),
    Rule(
        "metal-off",
        "MLX computes on the CPU, where fewer bits gain nothing: run it with Metal.",
        _metal_off,
        "the devices that the runtime executes on",
    ),
    Rule(
        "versions-known-to-fail",
        "The installed versions are known to fail together: install others.",
        _known_defect,
        "the installed versions",
    ),
    Rule(
        "types-refused",
        "The tool has no format for the recipe's types of weights and activations: leave them to "
        "it.",
        _types_refused,
        "what the tool said",
    ),
    Rule(
        "slow-start",
        "A new process takes too long to answer: let it start from a compiled model.",
        _slow_start,
        "the gate recovery",
    ),
)
