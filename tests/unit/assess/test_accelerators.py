"""Accelerators and power: written trees of pseudo-files, and recorded outputs of system tools."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from pytest_edgeai.assess.accelerators import find_accelerators, parse_nvidia_smi
from pytest_edgeai.assess.accelerators_other import darwin_accelerators, windows_accelerators
from pytest_edgeai.assess.command import output_of
from pytest_edgeai.assess.hardware import read_linux
from pytest_edgeai.assess.power import darwin_power, linux_power, read_linux_power, windows_power
from pytest_edgeai.records import Accelerator

GIB = 1 << 30
BUS = "sys/bus/pci/devices/0000:65:00.0"
NVIDIA = {f"{BUS}/vendor": "0x10de\n", f"{BUS}/device": "0x2330\n", f"{BUS}/class": "0x030200\n"}
INFORMATION = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 25\nBus Location: \t 0000:65:00.0\n"


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_nothing_readable_is_nothing_known(tmp_path: Path) -> None:
    assert find_accelerators(tmp_path) == ()
    facts = read_linux(tmp_path, affinity=1, hostname="h", system="Linux", architecture="x86_64")
    assert (facts.accelerators, facts.power_source, facts.battery_percent) == ((), "", None)
    assert not {"accelerators", "power_source", "battery_percent"} & set(facts.sources)


def test_nvidia_by_the_best_interface_that_answers(tmp_path: Path) -> None:
    put(tmp_path, NVIDIA)
    (bare,) = find_accelerators(tmp_path)
    assert bare == Accelerator("gpu", "NVIDIA", "NVIDIA 10de:2330", None, f"/{BUS}")
    put(tmp_path, {"proc/driver/nvidia/gpus/0000:65:00.0/information": INFORMATION})
    (driver,) = find_accelerators(tmp_path)
    assert driver.name == "NVIDIA H100 80GB HBM3"
    assert driver.memory_bytes is None
    (tool,) = find_accelerators(tmp_path, "00000000:65:00.0, NVIDIA H100 80GB HBM3, 81559\n")
    assert tool.memory_bytes == 81559 << 20
    assert tool.source == "nvidia-smi"


def test_an_audio_function_of_a_graphics_card_is_none(tmp_path: Path) -> None:
    put(tmp_path, NVIDIA | {f"{BUS}/class": "0x040300\n"})
    assert find_accelerators(tmp_path) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        '"\x00,,,\n',
    ],
)
def test_other_words_of_nvidia_smi_are_no_devices(text: str) -> None:
    assert parse_nvidia_smi(text) == {}


def test_memory_that_nvidia_smi_does_not_state(tmp_path: Path) -> None:
    (found,) = find_accelerators(tmp_path, "00000000:01:00.0, NVIDIA GB10, [N/A]\n")
    assert (found.name, found.memory_bytes) == ("NVIDIA GB10", None)


def test_a_jetson(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/device-tree/compatible": "nvidia,p3768\0nvidia,tegra234\0",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        },
    )
    (found,) = find_accelerators(tmp_path)
    assert (found.kind, found.name) == ("gpu", "NVIDIA Jetson Orin Nano")


def test_intel_and_amd(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "sys/class/drm/card0/device/vendor": "0x8086\n",
            "sys/class/drm/card0/device/device": "0x7D55\n",
            "sys/class/drm/card0-HDMI-A-1/device/vendor": "0x8086\n",
            "sys/class/drm/card1/device/vendor": "0x1002\n",
            "sys/class/drm/card1/device/device": "0x744c\n",
            "sys/class/drm/card1/device/mem_info_vram_total": f"{24 * GIB}\n",
            "sys/class/drm/card2/device/vendor": "0x1234\n",
            "sys/class/accel/accel0/device/vendor": "0x8086\n",
            "sys/class/accel/accel0/device/device": "0x7d1d\n",
            "sys/class/accel/accel1/device/vendor": "0x1022\n",
        },
    )
    found = [(each.kind, each.name, each.memory_bytes) for each in find_accelerators(tmp_path)]
    assert found == [
        ("gpu", "Intel 8086:7d55", None),
        ("gpu", "AMD 1002:744c", 24 * GIB),
        ("npu", "Intel NPU 8086:7d1d", None),
        ("npu", "AMD NPU 1022", None),
    ]


def test_qualcomm_needs_a_way_to_the_processor(tmp_path: Path) -> None:
    soc = {
        "sys/devices/soc0/vendor": "Qualcomm\n",
        "sys/devices/soc0/family": "Snapdragon\n",
        "sys/devices/soc0/machine": "SM8650\n",
    }
    assert find_accelerators(put(tmp_path, soc)) == ()
    put(tmp_path, {"dev/adsprpc-smd": "", "sys/class/kgsl/kgsl-3d0/gpu_model": "Adreno750\n"})
    gpu, npu = find_accelerators(tmp_path)
    assert (gpu.kind, gpu.name) == ("gpu", "Adreno750")
    assert (npu.kind, npu.name, npu.source) == ("npu", "Hexagon of SM8650", "/dev/adsprpc-smd")


def test_edge_tpus(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
            "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
            "sys/bus/usb/devices/1-1/idVendor": "1a6e\n",
            "sys/bus/usb/devices/1-1/idProduct": "089a\n",
            "sys/bus/usb/devices/2-1/idVendor": "18d1\n",
            "sys/bus/usb/devices/2-1/idProduct": "9302\n",
            "sys/bus/usb/devices/2-2/idVendor": "18d1\n",
            "sys/bus/usb/devices/2-2/idProduct": "4ee7\n",
        },
    )
    found = find_accelerators(tmp_path)
    assert [each.name for each in found] == ["Edge TPU (PCIe)", "Edge TPU (USB)", "Edge TPU (USB)"]
    assert {each.vendor for each in found} == {"Google"}
    facts = read_linux(tmp_path, affinity=1, hostname="h", system="Linux", architecture="aarch64")
    assert facts.accelerators == found
    assert "/sys/bus/usb/devices/2-1" in facts.sources["accelerators"]


APPLE = {
    "SPDisplaysDataType": [
        {"sppci_model": "Apple M2 Pro", "spdisplays_vendor": "sppci_vendor_Apple"},
        {"sppci_model": "AMD Radeon Pro 5500M", "spdisplays_vram": "8 GB"},
        {"_name": "Display"},
        "odd",
    ]
}


def test_a_mac() -> None:
    node = "+-o ane@84000000  <class IOPlatformDevice, id 0x1000001a2, registered, matched>\n"
    found = darwin_accelerators(json.dumps(APPLE), node, "Apple M2 Pro")
    assert [(each.kind, each.vendor, each.name, each.memory_bytes) for each in found] == [
        ("gpu", "Apple", "Apple M2 Pro", None),
        ("gpu", "AMD", "AMD Radeon Pro 5500M", 8 * GIB),
        ("npu", "Apple", "Neural Engine of Apple M2 Pro", None),
    ]
    # A virtual machine has no such node.
    assert len(darwin_accelerators(json.dumps(APPLE), "", "Apple M2 Pro")) == 2
    for broken in ("", "{", "[]", '{"SPDisplaysDataType": 3}', "[" * 100_000):
        assert darwin_accelerators(broken, "", "Apple M1") == ()


def test_windows_drivers() -> None:
    found = windows_accelerators(
        [
            (
                "gpu",
                {
                    "DriverDesc": "NVIDIA GeForce RTX 4070",
                    "MatchingDeviceId": r"pci\ven_10de&dev_2786",
                    "HardwareInformation.qwMemorySize": 12 * GIB,
                },
            ),
            ("gpu", {"DriverDesc": "Microsoft Remote Display Adapter"}),
            (
                "npu",
                {
                    "DriverDesc": "Intel(R) AI Boost",
                    "MatchingDeviceId": r"PCI\VEN_8086&DEV_7D1D",
                    "HardwareInformation.qwMemorySize": (2 * GIB).to_bytes(8, "little"),
                },
            ),
        ]
    )
    assert [(each.kind, each.vendor, each.memory_bytes) for each in found] == [
        ("gpu", "NVIDIA", 12 * GIB),
        ("npu", "Intel", 2 * GIB),
    ]


BATTERY = {"type": "Battery", "capacity": "81"}


@pytest.mark.parametrize(
    ("supplies", "source", "percent"),
    [
        ([], "", None),
        ([{"type": "Mains", "online": "1"}, BATTERY | {"status": "Charging"}], "mains", 81),
        ([{"type": "Mains", "online": "0"}, BATTERY | {"status": "Discharging"}], "battery", 81),
        ([{"type": "Mains", "online": "0"}, BATTERY | {"status": "Unknown"}], "battery", 81),
        ([BATTERY | {"status": "Discharging"}], "battery", 81),
        ([BATTERY | {"status": "Full"}, BATTERY | {"capacity": "60"}], "mains", 70),
        ([BATTERY | {"status": "Unknown"}], "", 81),
        # A mouse runs on a battery of its own.
        ([BATTERY | {"scope": "Device", "status": "Discharging"}], "", None),
        ([{"type": "USB", "online": "1"}], "mains", None),
    ],
)
def test_power_of_linux(supplies: list[dict[str, str]], source: str, percent: int | None) -> None:
    found = linux_power(supplies)
    assert (found.source, found.battery_percent) == (source, percent)
    assert bool(found.interface) == bool(source or percent is not None)


def test_power_is_read_into_the_facts(tmp_path: Path) -> None:
    base = "sys/class/power_supply"
    put(
        tmp_path,
        {
            f"{base}/AC/type": "Mains\n",
            f"{base}/AC/online": "0\n",
            f"{base}/BAT0/type": "Battery\n",
            f"{base}/BAT0/status": "Discharging\n",
            f"{base}/BAT0/capacity": "42\n",
        },
    )
    assert read_linux_power(tmp_path).source == "battery"
    facts = read_linux(tmp_path, affinity=1, hostname="h", system="Linux", architecture="x86_64")
    assert (facts.power_source, facts.battery_percent) == ("battery", 42)
    assert facts.sources["power_source"] == "/sys/class/power_supply"


def test_power_of_a_mac() -> None:
    text = "Now drawing from '{}'\n -InternalBattery-0 (id=4653155)\t95%; charged; 0:00\n"
    assert darwin_power(text.format("AC Power")).source == "mains"
    found = darwin_power(text.format("Battery Power"))
    assert (found.source, found.battery_percent, found.interface) == ("battery", 95, "pmset")
    assert darwin_power("Now drawing from 'AC Power'\n").battery_percent is None
    assert darwin_power("").interface == ""


@pytest.mark.parametrize(
    ("status", "source", "percent"),
    [
        ((1, 8, 77), "mains", 77),
        ((0, 1, 50), "battery", 50),
        ((1, 128, 255), "mains", None),
        ((255, 255, 255), "", None),
    ],
)
def test_power_of_windows(status: tuple[int, int, int], source: str, percent: int | None) -> None:
    found = windows_power(*status)
    assert (found.source, found.battery_percent) == (source, percent)


def test_container_limits_are_facts_of_their_own(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 16000000 kB\n",
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": "2000000000\n",
        },
    )
    facts = read_linux(tmp_path, affinity=8, hostname="h", system="Linux", architecture="x86_64")
    assert facts.cpu_limit == 1.5
    assert facts.memory_limit_bytes == 2_000_000_000
    assert {"cpu_limit", "memory_limit_bytes"} <= set(facts.sources)


def test_a_command_is_quiet_and_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    assert output_of(["no-such-command-anywhere"]) == ""
    assert output_of([sys.executable, "-c", "print('x')"]) == "x\n"
    assert output_of([sys.executable, "-c", "import sys; print('x'); sys.exit(3)"]) == ""
    noisy = "import sys; print('e', file=sys.stderr); sys.stdin.read(); print('done')"
    assert output_of([sys.executable, "-c", noisy]) == "done\n"
    began = time.monotonic()
    assert output_of([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == ""
    assert time.monotonic() - began < 30
    assert capfd.readouterr() == ("", "")
