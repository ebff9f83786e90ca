"""Read numbers of sysfs, and tell the kernel's own from a directory that looks like it."""

from __future__ import annotations

from pathlib import Path

DEFAULT_SYSFS = Path("/sys")
MOUNTS = Path("/proc/self/mounts")
_MOST_BYTES = 256


class Unreadable(Exception):
    """A file of sysfs that is there and says nothing that can be used; its words are for people."""


def read_number(path: Path) -> int:
    """Return the whole number that a file holds.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: no permission, an error of the device, or no number.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise
    except PermissionError:
        raise Unreadable(f"{path} may not be read") from None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror})") from None
    try:
        return int(text)
    except ValueError:
        raise Unreadable(f"{path} holds no number") from None


def read_word(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def not_of_the_kernel(sysfs: Path, mounts: Path = MOUNTS) -> str:
    """Return why a directory is no sysfs of this kernel; empty where it is one.

    A container sees the host's at another place; a directory of ordinary files says nothing about
    this machine, and what is read there is no measurement.

    Args:
        sysfs: the directory.
        mounts: the mounts of this process, see ``fstab(5)``.
    """
    if sysfs == DEFAULT_SYSFS:
        return ""
    place = sysfs.resolve()
    kind, longest = "", -1
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if place.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = fields[2], len(point.parts)
    return "" if kind == "sysfs" else f"{sysfs} is a planted directory and no sysfs of this kernel"
