"""Where the power of a host comes from: a battery makes a processor slower and hotter to measure.

Sources: the kernel's Documentation/ABI/testing/sysfs-class-power, pmset(1), and the Windows API
page of SYSTEM_POWER_STATUS.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.assess.command import output_of

PMSET = ("pmset", "-g", "batt")
_PROPERTIES = ("type", "online", "status", "capacity", "scope")
_DRAWING = re.compile(r"Now drawing from '([^']+)'")
_PERCENT = re.compile(r"\s(\d{1,3})%;")
_MOST_BYTES = 4096
# SYSTEM_POWER_STATUS: ACLineStatus, and the values that stand for "unknown" and "no battery".
_OFFLINE, _ONLINE, _UNKNOWN, _NO_BATTERY = 0, 1, 255, 128


@dataclass(frozen=True)
class Power:
    """The power of a host; an empty string or ``None`` means unknown.

    Attributes:
        source: ``mains`` or ``battery``.
        battery_percent: charge of the battery; ``None`` without one.
        interface: what it was read from.
    """

    source: str = ""
    battery_percent: int | None = None
    interface: str = ""


def linux_power(supplies: Iterable[Mapping[str, str]]) -> Power:
    """Compose the power of a Linux host.

    Args:
        supplies: the properties of each directory under ``/sys/class/power_supply``.
    """
    # Mice and headsets report their own batteries with the scope "Device".
    own = [each for each in supplies if each.get("scope", "") != "Device"]
    batteries = [each for each in own if each.get("type") == "Battery"]
    lines = [each for each in own if each.get("type") in ("Mains", "USB", "Wireless")]
    levels = [int(text) for each in batteries if (text := each.get("capacity", "")).isdecimal()]
    source = ""
    if any(each.get("online") in ("1", "2") for each in lines):
        source = "mains"
    elif any(each.get("status") == "Discharging" for each in batteries):
        source = "battery"
    elif any(each.get("status") in ("Charging", "Full", "Not charging") for each in batteries):
        source = "mains"
    elif batteries and lines and all(each.get("online") == "0" for each in lines):
        source = "battery"
    percent = min(100, round(sum(levels) / len(levels))) if levels else None
    known = bool(source) or percent is not None
    return Power(source, percent, "/sys/class/power_supply" if known else "")


def read_linux_power(root: Path) -> Power:
    """Read the power of a Linux host.

    Args:
        root: the directory that holds ``sys``.
    """
    base = root / "sys/class/power_supply"
    try:
        names = sorted(base.iterdir())
    except OSError:
        return Power()
    return linux_power({each: _text(name / each) for each in _PROPERTIES} for name in names)


def darwin_power(text: str) -> Power:
    """Compose the power of a Mac from what ``PMSET`` writes."""
    drawing, percent = _DRAWING.search(text), _PERCENT.search(text)
    words = {"AC Power": "mains", "Battery Power": "battery"}
    source = words.get(drawing[1], "") if drawing else ""
    level = min(100, int(percent[1])) if percent else None
    return Power(source, level, "pmset" if source or level is not None else "")


def windows_power(line_status: int, battery_flag: int, percent: int) -> Power:
    """Compose the power of a Windows machine from its SYSTEM_POWER_STATUS."""
    source = {_OFFLINE: "battery", _ONLINE: "mains"}.get(line_status, "")
    has_battery = battery_flag == _UNKNOWN or not battery_flag & _NO_BATTERY
    level = percent if has_battery and percent <= 100 else None
    known = bool(source) or level is not None
    return Power(source, level, "GetSystemPowerStatus" if known else "")


def read_darwin_power() -> Power:
    """Read the power of this Mac."""
    return darwin_power(output_of(PMSET))


def read_windows_power() -> Power:
    """Read the power of this Windows machine."""
    if sys.platform != "win32":
        return Power()

    class Status(ctypes.Structure):
        _fields_ = [
            ("line_status", ctypes.c_ubyte),
            ("battery_flag", ctypes.c_ubyte),
            ("percent", ctypes.c_ubyte),
            ("saver", ctypes.c_ubyte),
            ("life_s", ctypes.c_uint32),
            ("full_life_s", ctypes.c_uint32),
        ]

    status = Status()
    if not ctypes.WinDLL("kernel32").GetSystemPowerStatus(ctypes.byref(status)):
        return Power()
    return windows_power(status.line_status, status.battery_flag, status.percent)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
