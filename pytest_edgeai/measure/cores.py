"""Which core a round runs on: the same one for every model of the round.

Cores are not alike. On a virtual machine whose host shares each core between two hyperthreads, one
core was seen to take 1.5 times as long as the other for the same call, in CPU time as in wall time,
with nothing stolen and nothing preempted, and to be the fast one a second later. The scheduler
leaves each worker on the core that it had, so that a model compared with itself stood at 0.65 or
1.5 for a whole measurement and every round agreed. Models of one thread are therefore put on one
core for some rounds, and on another one for the next.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

ROUNDS_ON_A_CORE = 5
"""Rounds that follow each other on one core: those whose minima of wall time are compared."""

MOST_CORES = 8
EXPLORING_SHARE = 0.25
"""Share of the choices that any core gets, so that one that was busy is tried again."""

_REMEMBERED_ROUNDS = 2 * ROUNDS_ON_A_CORE
_ALIKE_RATIO = 0.95
_SYSTEM = Path("/sys/devices/system/cpu")
_SPEEDS = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")


class Placed(Protocol):
    """A model in a process of its own."""

    def run_on(self, core: int | None) -> bool:
        """Put the process on one core, ``None`` on all; return whether that was done."""
        ...


def place(
    models: Sequence[Placed],
    used: Sequence[int],
    preempted: Sequence[float],
    generator: random.Random,
    *,
    keep: bool,
) -> int:
    """Put all models on one core, and return it; -1 where some are left to the scheduler.

    Args:
        models: the models of the next round.
        used: the core of each round so far.
        preempted: for each of them, the share of its calls that were preempted.
        generator: source of the choice.
        keep: whether the core of the last round is kept.
    """
    core: int | None = used[-1] if keep and used and used[-1] >= 0 else None
    if core is None:
        core = next_core(cores(), used, preempted, generator)
    placed = [model.run_on(core) for model in models]
    return core if core is not None and all(placed) else -1


@lru_cache(maxsize=1)
def cores() -> tuple[int, ...]:
    """Return the cores that models are put on: fast ones of one memory node, at most 8.

    Empty where processes cannot be put on a core, or there is only one. Of cores of several kinds
    those of the fastest one are taken, as a scheduler under load would; see ``cpu_capacity`` and
    ``cpuinfo_max_freq`` in Linux's ``Documentation/ABI/testing/sysfs-devices-system-cpu``.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return choose_cores(sorted(os.sched_getaffinity(0)), _SYSTEM)


def choose_cores(allowed: Sequence[int], system: Path) -> tuple[int, ...]:
    """Return those of the allowed cores that are alike; see :func:`cores`.

    Args:
        allowed: cores that this process may run on.
        system: ``/sys/devices/system/cpu``.
    """
    for name in _SPEEDS:
        speeds = {core: _number(system / f"cpu{core}" / name) for core in allowed}
        fastest = max((speed for speed in speeds.values() if speed is not None), default=None)
        if fastest is not None:
            allowed = [c for c in allowed if (speeds[c] or 0) >= _ALIKE_RATIO * fastest]
            break
    nodes = {core: _node(system / f"cpu{core}") for core in allowed}
    chosen = [core for core in allowed if nodes[core] == nodes[allowed[0]]][:MOST_CORES]
    return tuple(chosen) if len(chosen) > 1 else ()


def next_core(
    available: Sequence[int],
    used: Sequence[int],
    preempted: Sequence[float],
    generator: random.Random,
) -> int | None:
    """Return the core of the next rounds: one that was not busy when it was used last.

    What the rounds say about the models has no part in it, so that the next sign is as fair as
    before.

    Args:
        available: what :func:`cores` returns.
        used: the core of each round so far; -1 where it was left to the scheduler.
        preempted: for each of them, the share of its calls that were preempted.
        generator: source of the choice among equals.
    """
    if not available:
        return None
    if generator.random() < EXPLORING_SHARE:
        return generator.choice(available)
    shares = dict.fromkeys(available, 0.0)
    for core in available:
        last = [share for where, share in zip(used, preempted, strict=True) if where == core][
            -_REMEMBERED_ROUNDS:
        ]
        # In tenths: an interrupt more or less is no reason to leave a core.
        shares[core] = round(sum(last) / len(last), 1) if last else 0.0
    least = min(shares.values())
    return generator.choice([core for core in available if shares[core] == least])


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _node(core: Path) -> str:
    """Return the memory node of a core; empty where the system has none."""
    return next((entry.name for entry in sorted(core.glob("node[0-9]*"))), "")
