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

    An unknown fact of the host never makes it a host of the target's kind.
    """
    what = host.cpu_model or host.cpu_vendor or host.architecture or "unknown"
    if target.host_vendors and host.cpu_vendor not in target.host_vendors:
        return f'this host is no {target.title}: its CPU is "{what}" ({host.cpu_vendor or "vendor unknown"})'
    if target.host_architectures and host.architecture not in target.host_architectures:
        return f"this host is no {target.title}: its architecture is {host.architecture or 'unknown'}"
    return ""
