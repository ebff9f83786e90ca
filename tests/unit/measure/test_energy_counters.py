"""Counters of energy on planted directories: sums, wraps, and everything that can be wrong."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from planted_energy import RANGE_MICROJOULES, battery, package, put

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.facts import Accelerator
from pytest_edgeai.measure.energy_battery import Battery, find_batteries
from pytest_edgeai.measure.energy_counters import ANY_DEVICE, CPU, Found, choose_counters, devices
from pytest_edgeai.measure.energy_nvml import Gpu, find_gpus
from pytest_edgeai.measure.energy_powercap import find_powercap
from pytest_edgeai.measure.energy_powermetrics import PowerMetrics, find_powermetrics
from pytest_edgeai.measure.energy_sysfs import not_of_the_kernel

GPU_UUID = "GPU-3f2c0a11-0000-0000-0000-0123456789ab"


def test_packages_and_their_memory_are_added_and_nothing_twice(tmp_path: Path) -> None:
    zone = package(tmp_path)
    package(tmp_path, 1, dram=False)
    base = tmp_path / "class/powercap"
    put(base / "intel-rapl:2", name="psys", energy_uj=5, max_energy_range_uj=9)
    put(base / "intel-rapl-mmio:0", name="package-0", energy_uj=5, max_energy_range_uj=9)
    # As in the kernel's own tree, zones of the second level stand in the class as well.
    (base / "intel-rapl:0:1").symlink_to(zone / "intel-rapl:0:1")
    found = find_powercap(tmp_path)
    assert [c.name for c in found.counters] == ["package-0", "package-0 dram", "package-1"]
    assert found.unreadable == ()
    assert [c.joules() for c in found.counters] == [0, 0, 0]
    put(zone, energy_uj=1000 + 2_500_000)
    put(zone / "intel-rapl:0:1", energy_uj=500 + 40)
    assert [c.joules() for c in found.counters] == pytest.approx([2.5, 4e-5, 0])
    assert found.counters[0].place == str(zone / "energy_uj")


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    zone = package(tmp_path, energy_uj=RANGE_MICROJOULES - 10, dram=False)
    [counter] = find_powercap(tmp_path).counters
    put(zone, energy_uj=90)
    assert counter.joules() == pytest.approx(100e-6)
    put(zone, energy_uj=RANGE_MICROJOULES - 1)
    assert counter.joules() == pytest.approx((RANGE_MICROJOULES + 9) * 1e-6)
    put(zone, energy_uj=0)
    assert counter.joules() == pytest.approx((RANGE_MICROJOULES + 10) * 1e-6)


@pytest.mark.parametrize("limit", [None, "many", 3])
def test_a_counter_that_falls_without_a_range_is_an_error(tmp_path: Path, limit: object) -> None:
    zone = package(tmp_path, dram=False)
    [counter] = find_powercap(tmp_path).counters
    if limit is None:
        (zone / "max_energy_range_uj").unlink()
    else:
        put(zone, max_energy_range_uj=limit)
    put(zone, energy_uj=10)
    words = "ran backwards" if limit == 3 else "does not say at what"
    with pytest.raises(MeasurementError, match=words):
        counter.joules()


def test_a_counter_that_vanishes_or_turns_to_garbage_is_an_error(tmp_path: Path) -> None:
    zone = package(tmp_path, dram=False)
    [counter] = find_powercap(tmp_path).counters
    put(zone, energy_uj="soon")
    with pytest.raises(MeasurementError, match="holds no number"):
        counter.joules()
    (zone / "energy_uj").unlink()
    with pytest.raises(MeasurementError, match="package-0 was lost"):
        counter.joules()


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter, while this process is not root."""
    if sys.platform != "linux":
        pytest.skip("needs the users of Linux")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        zone = package(folder, dram=False)
        (zone / "energy_uj").chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            yield folder
        finally:
            os.seteuid(user)


def test_a_counter_of_root_is_named_with_what_to_do(as_nobody: Path) -> None:
    found = find_powercap(as_nobody)
    assert found.counters == ()
    [text] = found.unreadable
    assert "energy_uj may not be read; sudo chmod -R a+r" in text


def test_a_counter_that_is_a_directory_or_garbage_is_named(tmp_path: Path) -> None:
    zone = package(tmp_path)
    (zone / "energy_uj").unlink()
    (zone / "energy_uj").mkdir()
    check_unreadable(tmp_path, "cannot be read")
    (zone / "energy_uj").rmdir()
    check_unreadable(tmp_path, "has no energy_uj")
    for garbage in ("", "12 J", "-", "\0"):
        put(zone, energy_uj=garbage)
        check_unreadable(tmp_path, "holds no number")


def check_unreadable(sysfs: Path, words: str) -> None:
    package(sysfs, 1)
    found = find_powercap(sysfs)
    # The other package alone would miss what runs on this one.
    assert found.counters == ()
    assert words in found.unreadable[0]


def test_no_sysfs_has_no_counter(tmp_path: Path) -> None:
    for sysfs in (tmp_path / "absent", tmp_path):
        assert find_powercap(sysfs).counters == find_batteries(sysfs).counters == ()


def test_a_directory_of_files_is_no_sysfs(tmp_path: Path) -> None:
    assert "planted" in not_of_the_kernel(tmp_path)
    assert "planted" in find_powercap(tmp_path).planted
    assert not_of_the_kernel(Path("/sys")) == ""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nsysfs {tmp_path}/h\\040ost/sys sysfs ro 0 0\nx\n")
    host = tmp_path / "h ost/sys"
    host.mkdir(parents=True)
    assert not_of_the_kernel(host, mounts) == ""
    assert "planted" in not_of_the_kernel(tmp_path, mounts)
    assert "planted" in not_of_the_kernel(host, tmp_path / "absent")


def test_a_battery_gives_what_its_gauge_falls_by(tmp_path: Path) -> None:
    place = battery(tmp_path, energy_now=40_000_000)
    charge = battery(
        tmp_path,
        "BAT1",
        charge_now=3_000_000,
        voltage_min_design=11_400_000,
        voltage_now=12_000_000,
    )
    energy_counter, charge_counter = find_batteries(tmp_path).counters
    put(place, energy_now=39_990_000)
    put(charge, charge_now=2_999_000, voltage_now=11_000_000)
    assert energy_counter.joules() == pytest.approx(0.01 * 3600)
    assert charge_counter.joules() == pytest.approx(0.001 * 11.4 * 3600)
    put(place, energy_now=39_995_000)
    with pytest.raises(MeasurementError, match="rose"):
        energy_counter.joules()
    put(charge, status="Charging")
    with pytest.raises(MeasurementError, match="no longer discharges"):
        charge_counter.joules()


def test_power_is_added_up_over_time(tmp_path: Path) -> None:
    now = [100.0]
    place = battery(tmp_path, power_now=8_000_000)
    counter = Battery(place, "BAT0", "power", clock=lambda: now[0])
    now[0] += 10
    put(place, power_now=12_000_000)
    assert counter.joules() == pytest.approx(100)
    (place / "power_now").unlink()
    put(place, current_now=-1_000_000, voltage_now=12_000_000)
    now[0] += 2
    assert counter.joules() == pytest.approx(124)
    assert counter.quantum_joules == 0


def test_batteries_that_say_nothing_are_named(tmp_path: Path) -> None:
    battery(tmp_path, "BAT0", status="Charging", energy_now=1)
    battery(tmp_path, "BAT1")
    battery(tmp_path, "hidpp", scope="Device", energy_now=1)
    put(tmp_path / "class/power_supply/AC", type="Mains", online=1)
    found = find_batteries(tmp_path)
    assert found.counters == ()
    assert found.unreadable == (
        "battery BAT0: it does not discharge, so it counts nothing",
        "battery BAT1: it states no energy",
    )


class RecordedNvml:
    """Stands where ``pynvml`` does, and answers what a driver answered; a proxy without a GPU."""

    class NVMLError(Exception):
        """As in ``pynvml``."""

    def __init__(self, *millijoules: int | None) -> None:
        self.millijoules = list(millijoules)

    def nvmlInit(self) -> None:
        if not self.millijoules:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"{GPU_UUID}{handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        value = self.millijoules[handle]
        if value is None:
            raise self.NVMLError("Not Supported")
        return value


def gpus(nvml: RecordedNvml, **environment: str) -> Found:
    return find_gpus(lambda: nvml, environment)


def test_gpus_count_millijoules() -> None:
    nvml = RecordedNvml(5_000, 7_000)
    first, second = gpus(nvml).counters
    assert (first.name, first.place) == ("NVIDIA H100 0", f"{GPU_UUID}0")
    nvml.millijoules[:] = [6_500, 7_000]
    assert (first.joules(), second.joules()) == (1.5, 0)
    nvml.millijoules[0] = 6_000
    with pytest.raises(MeasurementError, match="ran backwards"):
        first.joules()
    nvml.millijoules[0] = None
    with pytest.raises(MeasurementError, match="was lost: Not Supported"):
        first.joules()


def test_gpus_that_cuda_does_not_see_are_left_out() -> None:
    nvml = RecordedNvml(5_000, 7_000)
    [counter] = gpus(nvml, CUDA_VISIBLE_DEVICES=f"{GPU_UUID}1").counters
    assert counter.name == "NVIDIA H100 1"
    assert len(gpus(nvml, CUDA_VISIBLE_DEVICES="1").counters) == 2
    for none in ("", "-1"):
        assert gpus(nvml, CUDA_VISIBLE_DEVICES=none).counters == ()
    visible = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    [counter] = gpus(nvml, **visible).counters
    assert counter.name == "NVIDIA H100 1"


def test_a_gpu_that_cannot_be_read_leaves_none() -> None:
    found = gpus(RecordedNvml(5_000, None))
    assert found.counters == ()
    assert found.unreadable == ("NVML NVIDIA H100 1: Not Supported",)
    assert gpus(RecordedNvml()) == Found()


def test_a_missing_package_is_named_with_its_command() -> None:
    def absent() -> Any:
        raise ImportError

    [text] = find_gpus(absent).unreadable
    assert 'pip install "pytest-edgeai[energy]"' in text


def test_nvml_of_this_machine_is_asked() -> None:
    pytest.importorskip("pynvml", reason='pip install "pytest-edgeai[energy]"')
    for counter in find_gpus().counters:
        assert isinstance(counter, Gpu)
        assert counter.joules() >= 0


SAMPLES = """
*** Sampled system activity (Sun Nov 22 10:00:00 2026 +0000) (100.50ms elapsed) ***

**** Processor usage ****
CPU Power: 900 mW
GPU Power: 100 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 1000 mW

*** Sampled system activity (Sun Nov 22 10:00:00 2026 +0000) (200.00ms elapsed) ***
Combined Power (CPU + GPU + ANE): 4000 mW
"""


def test_samples_of_powermetrics_are_added_up() -> None:
    program = f"import time; print({SAMPLES!r}, flush=True); time.sleep(60)"
    counter = PowerMetrics((sys.executable, "-c", program))
    try:
        deadline = time.monotonic() + 20
        while counter.joules() < 0.9 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert counter.joules() == pytest.approx(0.1005 + 0.8)
    finally:
        counter.close()
    with pytest.raises(MeasurementError, match="ended after 2 samples"):
        counter.joules()


def test_powermetrics_is_for_root_on_a_mac() -> None:
    assert find_powermetrics(system="linux") == Found()


CPU_ONLY = FrameworkDescriptor("a", "a:A", "pip install a", (), ("onnx",), {})
ON_GPU = replace(CPU_ONLY, accelerators=("NVIDIA", "Intel"), device="GPU")
H100 = Accelerator("gpu", "NVIDIA", "H100", 80 << 30, "nvidia-smi")
ARC = Accelerator("gpu", "Intel", "Arc A770", 16 << 30, "sysfs")
XE = Accelerator("gpu", "Intel", "Iris Xe", None, "sysfs")


@pytest.mark.parametrize(
    ("framework", "host", "needed"),
    [
        (CPU_ONLY, [H100], {CPU}),
        (ON_GPU, [H100], {CPU, "NVIDIA"}),
        (ON_GPU, [XE], {CPU}),
        (ON_GPU, [ARC], {CPU, "Intel"}),
        (ON_GPU, [], {CPU, "NVIDIA", "Intel"}),
        (replace(ON_GPU, device="CPU"), [H100], {CPU}),
    ],
)
def test_the_devices_of_both_models_are_known(
    framework: FrameworkDescriptor, host: list[Accelerator], needed: set[str]
) -> None:
    assert devices([CPU_ONLY, framework], host) == needed


def counter(name: str, *covers: str) -> Any:
    return SimpleNamespace(name=name, covers=frozenset(covers), source=name)


PACKAGE, GPU, BATTERY = counter("RAPL", CPU), counter("NVML", "NVIDIA"), counter("BAT", ANY_DEVICE)


@pytest.mark.parametrize(
    ("needed", "there", "chosen"),
    [
        ({CPU}, [PACKAGE, GPU, BATTERY], [PACKAGE]),
        ({CPU, "NVIDIA"}, [PACKAGE, GPU], [PACKAGE, GPU]),
        ({"NVIDIA"}, [GPU], [GPU]),
        ({"NVIDIA"}, [PACKAGE, GPU], [PACKAGE, GPU]),
        ({CPU, "NVIDIA"}, [GPU, BATTERY], [BATTERY]),
        ({CPU, "NVIDIA"}, [GPU], []),
        ({CPU}, [], []),
        ({"AMD"}, [PACKAGE], []),
    ],
)
def test_counters_hold_all_of_the_energy_and_none_twice(
    needed: set[str], there: list[Any], chosen: list[Any]
) -> None:
    found = choose_counters(needed, [Found((each,), (), "") for each in there])
    assert list(found.counters) == chosen
    assert bool(found.missing) == (not chosen)


def test_what_is_missing_is_named() -> None:
    found = choose_counters({CPU, "NVIDIA"}, [Found((GPU,)), Found((), ("RAPL: no",), "")])
    assert found.missing == "no counter of the energy of the CPU can be read"
    assert found.unreadable == ("RAPL: no",)
    planted = choose_counters({CPU}, [Found((PACKAGE,), (), "planted")])
    assert planted.planted == "planted"
