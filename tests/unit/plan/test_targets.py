"""The platform matrix, the kinds of hosts and the limits of packages."""

from __future__ import annotations

import dataclasses

import pytest
from plan_parts import CHAT, HOST, IMAGES, MAC, PHONE, WITH_GPU, WITH_TPU

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS, MLX, OPENVINO
from pytest_edgeai.plan.targets import (
    PACKAGES,
    TARGETS,
    artifact_limit,
    framework_order,
    framework_proxy_reason,
    proxy_reason,
)
from pytest_edgeai.records import HostFacts
from pytest_edgeai.specification import DEPLOYMENTS

MATRIX = {
    "intel": (("openvino", "olive", "onnxruntime"), ("openvino", "olive", "llamacpp")),
    "nvidia": (("olive", "openvino"), ("olive", "openvino", "llamacpp")),
    "apple": (("mlx", "llamacpp", "onnxruntime"), ("mlx", "llamacpp", "onnxruntime")),
    "arm-mobile": (("onnxruntime", "openvino"), ("llamacpp", "openvino")),
    "arm-embedded": (("llamacpp", "openvino", "onnxruntime"),) * 2,
    "edge-tpu": (("openvino", "olive"),) * 2,
    "cross": (("onnxruntime", "openvino"), ("llamacpp", "openvino")),
    "enterprise": (("olive", "openvino"), ("olive", "openvino", "llamacpp")),
    "qualcomm": (("onnxruntime",), ("llamacpp",)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_order_is_that_of_the_matrix(name: str) -> None:
    target = TARGETS[name]
    for task, order in zip((IMAGES, CHAT), MATRIX[name], strict=True):
        assert framework_order(target, task, 10**6) == order
        assert set(order) <= set(FRAMEWORKS)


def test_every_target_of_the_design_is_there() -> None:
    assert list(TARGETS) == list(MATRIX)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("task", [IMAGES, CHAT])
def test_large_models_go_to_olive_first(name: str, task: str) -> None:
    usual = framework_order(TARGETS[name], task, 6_400_000_000)
    large = framework_order(TARGETS[name], task, 6_738_415_616)
    assert large == ("olive", *(each for each in usual if each != "olive"))


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("intel", HOST),
        ("nvidia", WITH_GPU),
        ("apple", MAC),
        ("arm-mobile", PHONE),
        ("arm-embedded", PHONE),
        ("edge-tpu", WITH_TPU),
        ("cross", HOST),
        ("cross", MAC),
        ("enterprise", HOST),
        ("qualcomm", PHONE),
    ],
)
def test_a_host_of_the_kind(target: str, host: HostFacts) -> None:
    assert proxy_reason(TARGETS[target], host) == ""


@pytest.mark.parametrize(
    ("target", "host", "reason"),
    [
        ("intel", PHONE, 'its CPU is "Kryo" (Qualcomm), and intel means Intel CPU/GPU'),
        ("nvidia", HOST, "it has no accelerator, and nvidia means NVIDIA GPU"),
        ("nvidia", WITH_TPU, "its accelerators are Edge TPU (USB), and nvidia means"),
        ("apple", dataclasses.replace(MAC, system="Linux 6.1"), "its operating system is Linux"),
        ("apple", dataclasses.replace(MAC, cpu_vendor="GenuineIntel"), "(GenuineIntel), and apple"),
        ("arm-mobile", HOST, "its architecture is x86_64"),
        ("arm-mobile", MAC, "its operating system is Darwin"),
        ("arm-embedded", MAC, "its operating system is Darwin"),
        ("edge-tpu", WITH_GPU, "its accelerators are NVIDIA H100"),
        ("qualcomm", HOST, "it has no accelerator"),
    ],
)
def test_a_host_of_another_kind(target: str, host: HostFacts, reason: str) -> None:
    assert reason in proxy_reason(TARGETS[target], host)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("cross", "enterprise")])
def test_an_unknown_host_is_of_no_kind(name: str) -> None:
    unknown = HostFacts("", "", "", "", "", 1, None, (), "", {})
    assert proxy_reason(TARGETS[name], unknown)


def test_a_framework_on_another_backend_is_a_proxy() -> None:
    reason = framework_proxy_reason(MLX, TARGETS["apple"], HOST)
    assert "Metal" in reason
    assert framework_proxy_reason(MLX, TARGETS["apple"], MAC) == ""


def test_a_cpu_beside_the_accelerator_is_a_proxy() -> None:
    reason = framework_proxy_reason(OPENVINO, TARGETS["nvidia"], WITH_GPU)
    assert reason == "openvino computes on the CPU here and leaves the NVIDIA H100 idle"
    on_gpu = dataclasses.replace(OPENVINO, accelerators=("NVIDIA",))
    assert framework_proxy_reason(on_gpu, TARGETS["nvidia"], WITH_GPU) == ""
    assert framework_proxy_reason(OPENVINO, TARGETS["intel"], WITH_GPU) == ""


def test_phones_limit_what_a_package_weighs() -> None:
    limit = artifact_limit(TARGETS["arm-mobile"], "")
    assert limit is not None
    assert (limit.value, limit.origin) == (99_999_999, "target arm-mobile")
    limit = artifact_limit(TARGETS["arm-mobile"], "ios")
    assert limit is not None
    assert (limit.value, limit.origin) == (49_999_999, "deployment ios")
    limit = artifact_limit(TARGETS["apple"], "ios")
    assert limit is not None
    assert (limit.value, limit.relation) == (49_999_999, "at_most")


def test_what_is_no_phone_has_no_limit() -> None:
    assert artifact_limit(TARGETS["apple"], "") is None
    assert artifact_limit(TARGETS["apple"], "android") is None
    assert artifact_limit(TARGETS["intel"], "ios") is None


def test_the_manifest_knows_the_same_packages() -> None:
    assert tuple(PACKAGES) == DEPLOYMENTS
    assert {name for package in PACKAGES.values() for name in package.targets} <= set(TARGETS)
