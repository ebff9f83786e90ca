"""The edge targets, and whether a host is of a target's kind."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_edgeai.descriptors import TargetDescriptor
from pytest_edgeai.records import HostFacts

ARM_ARCHITECTURES = ("aarch64", "arm64", "armv7l", "armv8l")

TARGETS: Mapping[str, TargetDescriptor] = {
    target.name: target
    for target in (
        TargetDescriptor(
            "intel",
            "Intel CPU/GPU",
            ("openvino", "olive", "onnxruntime"),
            host_vendors=("GenuineIntel",),
        ),
        TargetDescriptor("cross", "any CPU", ("onnxruntime", "openvino")),
        TargetDescriptor(
            "arm-mobile",
            "ARM phone or tablet",
            ("onnxruntime", "openvino"),
            host_architectures=ARM_ARCHITECTURES,
        ),
        TargetDescriptor(
            "arm-embedded",
            "embedded ARM board",
            ("openvino", "onnxruntime"),
            host_architectures=ARM_ARCHITECTURES,
        ),
    )
}


def proxy_reason(target: TargetDescriptor, host: HostFacts) -> str:
    """Return why ``host`` is not of ``target``'s kind; empty where it is.

    The words go on from "this host is a proxy:".

    An unknown fact of the host never makes it a host of the target's kind.
    """
    what = host.cpu_model or host.cpu_vendor or host.architecture or "unknown"
    if target.host_vendors and host.cpu_vendor not in target.host_vendors:
        vendor = host.cpu_vendor or "vendor unknown"
        return f'its CPU is "{what}" ({vendor}), and {target.name} means {target.title}'
    if target.host_architectures and host.architecture not in target.host_architectures:
        architecture = host.architecture or "unknown"
        return f"its architecture is {architecture}, and {target.name} means {target.title}"
    return ""
