"""Which cores this process runs on, and how long its threads wait for one, as Linux tells it.

``/proc/self/task/*/schedstat`` holds for every thread the nanoseconds that it ran and that it was
ready to run and waited (https://docs.kernel.org/scheduler/sched-stats.html); field 39 of ``stat``
is the core that it ran on last; ``/proc/stat`` holds what every core did
(https://man7.org/linux/man-pages/man5/proc_stat.5.html).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TASKS = Path("/proc/self/task")
STAT = Path("/proc/stat")
SOURCE = (
    "CPU time of each thread between two looks, 10 ms of calls or one call apart, for the core "
    "that both found it on; what a thread ran that had moved meanwhile is told apart"
)
NO_CORES = "this system does not tell which core a thread runs on"
LOOK_S = 0.010
_CORE_FIELD = 39
_STEAL = 7
_IDLE = (3, 4)
_COUNTED = 8
"""user, nice, system, idle, iowait, irq, softirq, steal; guest time stands in user time already."""


@dataclass(frozen=True)
class Thread:
    """One look at a thread.

    Attributes:
        ran_ns: how long it ran since it began.
        waited_ns: how long it was ready to run and waited for a core.
        core: the core that it ran on last.
    """

    ran_ns: int
    waited_ns: int
    core: int


@dataclass(frozen=True)
class HostTicks:
    """What the cores did since they began, in ticks.

    Attributes:
        total: all of it.
        busy: what ran, of any process.
        steal: what the hypervisor gave to others.
    """

    total: int
    busy: int
    steal: int


@dataclass
class CoreUse:
    """What a process ran on each core during some calls.

    Attributes:
        wall_ns: wall time of the calls.
        ran_ns: core to CPU time.
        moved_ns: CPU time of threads that had moved between two looks.
    """

    wall_ns: int = 0
    ran_ns: dict[int, int] = field(default_factory=dict)
    moved_ns: int = 0

    def add(self, before: Mapping[int, Thread], after: Mapping[int, Thread], wall_ns: int) -> None:
        """Add what ran between two looks."""
        self.wall_ns += wall_ns
        for number, thread in after.items():
            earlier = before.get(number)
            ran = thread.ran_ns - (earlier.ran_ns if earlier else 0)
            if ran <= 0:
                continue
            if earlier is not None and earlier.core == thread.core:
                self.ran_ns[thread.core] = self.ran_ns.get(thread.core, 0) + ran
            else:
                self.moved_ns += ran


def look() -> dict[int, Thread] | None:
    """Return every thread of this process; ``None`` where the system does not tell."""
    if sys.platform != "linux":
        return None
    found: dict[int, Thread] = {}
    try:
        for name in os.listdir(TASKS):  # noqa: PTH208
            try:
                found[int(name)] = parse_thread(
                    (TASKS / name / "schedstat").read_text(), (TASKS / name / "stat").read_text()
                )
            except (ProcessLookupError, FileNotFoundError):
                # It has ended since; a kernel without these figures has them for no thread.
                continue
    except (OSError, ValueError, IndexError):
        return None
    return found or None


def parse_thread(schedstat: str, stat: str) -> Thread:
    """Return what ``schedstat`` and ``stat`` of a thread say.

    The name in ``stat`` stands in parentheses and may hold anything, spaces included.
    """
    ran, waited, _ = schedstat.split()
    fields = stat.rpartition(")")[2].split()
    return Thread(int(ran), int(waited), int(fields[_CORE_FIELD - 3]))


def host_ticks(cores: frozenset[int]) -> HostTicks | None:
    """Return what some cores did since they began; ``None`` where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        return parse_ticks(STAT.read_text(), cores)
    except (OSError, ValueError):
        return None


def parse_ticks(text: str, cores: frozenset[int]) -> HostTicks | None:
    """Return what ``/proc/stat`` says of some cores; ``None`` where it names none of them."""
    total = idle = steal = 0
    for line in text.splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks = [int(number) for number in numbers[:_COUNTED]]
            total += sum(ticks)
            idle += sum(ticks[index] for index in _IDLE if index < len(ticks))
            steal += ticks[_STEAL] if len(ticks) > _STEAL else 0
    return HostTicks(total, total - idle - steal, steal) if total else None


def use_of(call: Callable[[], object], seconds: float) -> CoreUse | None:
    """Call for about ``seconds`` and return what ran where; ``None`` where nobody tells.

    Nothing is read while calls run: they run in groups of :data:`LOOK_S`, or of one call.
    """
    # A look is time of this process too, and stands in the wall time as in the CPU time.
    begin_ns = time.perf_counter_ns()
    before = look()
    if before is None:
        return None
    use = CoreUse()
    end_ns = begin_ns + int(seconds * 1e9)
    while not use.wall_ns or begin_ns < end_ns:
        until = time.perf_counter_ns() + int(LOOK_S * 1e9)
        while time.perf_counter_ns() < until:
            call()
        now_ns = time.perf_counter_ns()
        after = look()
        if after is None:
            return None
        use.add(before, after, now_ns - begin_ns)
        before, begin_ns = after, now_ns
    return use
