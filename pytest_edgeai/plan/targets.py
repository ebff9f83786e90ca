"""The edge targets: their frameworks in order, their hosts, and what their packages may weigh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_edgeai.descriptors import FrameworkDescriptor, TargetDescriptor
from pytest_edgeai.records import Accelerator, HostFacts, Threshold
from pytest_edgeai.tasks import GENERATION_TASKS

ARM_ARCHITECTURES = ("aarch64", "arm64", "armv7l", "armv8l")
LARGE_MODEL_PARAMETERS = 6_500_000_000
"""What rounds to 7 billion is called 7B: the models of that name have 6.7 to 7.6 billion."""

# "Less than" in whole bytes, for a gate that says "at most".
IOS_BUNDLE_BYTES = 50 * 10**6 - 1
ANDROID_PACKAGE_BYTES = 100 * 10**6 - 1
_LARGE = ("olive",)


@dataclass(frozen=True)
class Package:
    """What a model ships in on a phone.

    Attributes:
        name: as the manifest writes it.
        title: for people.
        limit_bytes: most bytes that the artifact may take.
        targets: the targets whose devices take such a package.
    """

    name: str
    title: str
    limit_bytes: int
    targets: tuple[str, ...]


PACKAGES: Mapping[str, Package] = {
    package.name: package
    for package in (
        Package("ios", "iOS bundle, less than 50 MB", IOS_BUNDLE_BYTES, ("apple", "arm-mobile")),
        Package(
            "android",
            "Android package, less than 100 MB",
            ANDROID_PACKAGE_BYTES,
            ("arm-mobile", "qualcomm"),
        ),
    )
}

TARGETS: Mapping[str, TargetDescriptor] = {
    target.name: target
    for target in (
        TargetDescriptor(
            "intel",
            "Intel CPU/GPU",
            ("openvino", "olive", "onnxruntime"),
            text_frameworks=("openvino", "olive", "llamacpp"),
            large_frameworks=_LARGE,
            host_vendors=("GenuineIntel",),
            note="INT8 by NNCF post-training quantization",
        ),
        TargetDescriptor(
            "nvidia",
            "NVIDIA GPU",
            ("olive", "openvino"),
            text_frameworks=("olive", "openvino", "llamacpp"),
            large_frameworks=_LARGE,
            host_accelerators=("NVIDIA",),
            preferred_schemes=("int4-genai", "int8-static"),
            note="INT4 for language models, static INT8 for the others",
        ),
        TargetDescriptor(
            "apple",
            "Apple silicon",
            ("mlx", "llamacpp", "onnxruntime"),
            large_frameworks=_LARGE,
            host_vendors=("Apple",),
            host_systems=("Darwin",),
            note='INT4 in groups of 64; deployment = "ios" adds the limit of an iOS bundle',
        ),
        TargetDescriptor(
            "arm-mobile",
            "ARM phone or tablet",
            ("onnxruntime", "openvino"),
            text_frameworks=("llamacpp", "openvino"),
            large_frameworks=_LARGE,
            host_architectures=ARM_ARCHITECTURES,
            host_systems=("Linux", "Android"),
            artifact_limit_bytes=ANDROID_PACKAGE_BYTES,
            note="an Android package stays below 100 MB",
        ),
        TargetDescriptor(
            "arm-embedded",
            "embedded ARM board",
            ("llamacpp", "openvino", "onnxruntime"),
            large_frameworks=_LARGE,
            host_architectures=ARM_ARCHITECTURES,
            host_systems=("Linux",),
        ),
        TargetDescriptor(
            "edge-tpu",
            "Edge TPU",
            ("openvino", "olive"),
            large_frameworks=_LARGE,
            host_accelerators=("Google",),
            preferred_schemes=("int8-static",),
            note="the Edge TPU computes in INT8 alone",
        ),
        TargetDescriptor(
            "cross",
            "any CPU",
            ("onnxruntime", "openvino"),
            text_frameworks=("llamacpp", "openvino"),
            large_frameworks=_LARGE,
        ),
        TargetDescriptor(
            "enterprise",
            "enterprise server",
            ("olive", "openvino"),
            text_frameworks=("olive", "openvino", "llamacpp"),
            large_frameworks=_LARGE,
        ),
        TargetDescriptor(
            "qualcomm",
            "Qualcomm Hexagon, Adreno or Kryo",
            ("onnxruntime",),
            text_frameworks=("llamacpp",),
            large_frameworks=_LARGE,
            host_accelerators=("Qualcomm",),
            preferred_schemes=("int8-static",),
            note="QNN takes ONNX models in QDQ form, which static INT8 of ONNX Runtime writes",
        ),
    )
}


def framework_order(target: TargetDescriptor, task: str, parameters: int) -> tuple[str, ...]:
    """Return the frameworks in the order in which a model is offered to them.

    Args:
        target: the target.
        task: Hugging Face task name.
        parameters: number of elements of the model's weights.
    """
    usual = (task in GENERATION_TASKS and target.text_frameworks) or target.frameworks
    first = target.large_frameworks if parameters >= LARGE_MODEL_PARAMETERS else ()
    return tuple(dict.fromkeys((*first, *usual)))


def system_name(host: HostFacts) -> str:
    """Return the operating system as ``platform.system()`` names it; empty if unknown."""
    return host.system.partition(" ")[0]


def proxy_reason(target: TargetDescriptor, host: HostFacts) -> str:
    """Return why ``host`` is not of ``target``'s kind; empty where it is.

    The words go on from "this host is a proxy:".

    An unknown fact of the host never makes it a host of the target's kind.
    """
    means = f"{target.name} means {target.title}"
    what = host.cpu_model or host.cpu_vendor or host.architecture or "unknown"
    if target.host_vendors and host.cpu_vendor not in target.host_vendors:
        vendor = host.cpu_vendor or "vendor unknown"
        return f'its CPU is "{what}" ({vendor}), and {means}'
    if target.host_architectures and host.architecture not in target.host_architectures:
        architecture = host.architecture or "unknown"
        return f"its architecture is {architecture}, and {means}"
    system = system_name(host)
    if target.host_systems and system not in target.host_systems:
        return f"its operating system is {system or 'unknown'}, and {means}"
    if target.host_accelerators and not accelerators_of(target, host):
        found = ", ".join(dict.fromkeys(each.name for each in host.accelerators))
        has = f"its accelerators are {found}" if found else "it has no accelerator"
        return f"{has}, and {means}"
    return ""


def accelerators_of(target: TargetDescriptor, host: HostFacts) -> tuple[Accelerator, ...]:
    """Return the accelerators of a host that make it one of the target's kind."""
    return tuple(each for each in host.accelerators if each.vendor in target.host_accelerators)


def framework_proxy_reason(
    framework: FrameworkDescriptor, target: TargetDescriptor, host: HostFacts
) -> str:
    """Return why a framework's speed on ``host`` says nothing about ``target``; empty if it does.

    That is where it computes otherwise than on the target: on the CPU beside the accelerator that
    makes the host one of the target's kind, or with another backend.
    """
    reasons = []
    found = accelerators_of(target, host)
    if found and not {each.vendor for each in found} & set(framework.accelerators):
        name = found[0].name
        reasons.append(f"{framework.name} computes on the CPU here and leaves the {name} idle")
    backend = framework.proxy_systems.get(system_name(host), "")
    if backend:
        reasons.append(backend)
    return "; ".join(reasons)


def artifact_limit(target: TargetDescriptor, deployment: str) -> Threshold | None:
    """Return the limit of ``artifact_size`` where nobody sets one; ``None`` for none.

    Args:
        target: the target.
        deployment: what the model ships in, a name of :data:`PACKAGES`; empty: not stated.
    """
    package = PACKAGES.get(deployment)
    if package is not None and target.name in package.targets:
        return Threshold(float(package.limit_bytes), "at_most", f"deployment {package.name}")
    if target.artifact_limit_bytes is None:
        return None
    return Threshold(float(target.artifact_limit_bytes), "at_most", f"target {target.name}")
