"""Energy of a candidate and its baseline: by counters where there are any, else an estimate."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pytest_edgeai.energy_records import (
    EnergyMethod,
    EnergyReport,
    EnergySamples,
    method_from_json,
)
from pytest_edgeai.errors import EdgeAIError, NotCertified, UserError
from pytest_edgeai.judge.energy import GATE, energy_report
from pytest_edgeai.judge.verdict import count_text
from pytest_edgeai.measure.energy import (
    FEWEST_PAIRS,
    Blocks,
    EstimatedBlocks,
    MeasuredBlocks,
    take_pairs,
)
from pytest_edgeai.measure.energy_battery import find_batteries
from pytest_edgeai.measure.energy_counters import Chosen, Found, choose_counters, devices
from pytest_edgeai.measure.energy_factors import (
    SETTING,
    CorePower,
    carbon_factor,
    core_power,
)
from pytest_edgeai.measure.energy_nvml import NVIDIA, find_gpus
from pytest_edgeai.measure.energy_plan import (
    Clock,
    Meter,
)
from pytest_edgeai.measure.energy_powercap import find_powercap
from pytest_edgeai.measure.energy_powermetrics import find_powermetrics
from pytest_edgeai.measure.energy_sysfs import DEFAULT_SYSFS
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.workbench import Workbench, place, title

ENERGY = "energy"
REPORT_BUDGET_S = 30.0
"""Longest time of figures that nobody set a limit for."""

_ARRAYS = (
    "baseline_joules",
    "candidate_joules",
    "baseline_calls",
    "candidate_calls",
    "baseline_wall_s",
    "candidate_wall_s",
    "candidate_first",
    "idle_watts",
)


def energy(
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[EnergySamples], bool],
    *,
    budget_s: float,
    estimate: bool = True,
) -> tuple[EnergySamples, bool]:
    """Return pairs of blocks that decide a question, or all that the budget allowed.

    Pairs that were measured before are kept and added to.

    Args:
        bench: makes and measures.
        candidate: what is measured in turns with its baseline.
        decided: asked after each pair.
        budget_s: longest time of all pairs together.
        estimate: whether an estimate will do where no counter can be read.

    Returns:
        The pairs, and whether the budget was spent without a decision.

    Raises:
        NotCertified: energy can be neither measured nor, if that will do, estimated here.
        EdgeAIError: a model could not be run, or a counter was lost.
    """
    # A shorter budget may be too short for what a longer one allows.
    asked = (str(estimate), f"{budget_s:g}")
    return bench.guard(
        (ENERGY, candidate.model.name, candidate.comparison, *asked),
        lambda: _energy(bench, candidate, decided, budget_s, estimate=estimate),
    )


def _energy(
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[EnergySamples], bool],
    budget_s: float,
    *,
    estimate: bool,
) -> tuple[EnergySamples, bool]:
    bench.artifact(candidate)
    with bench.heavy(title(candidate)), ExitStack() as opened:
        known = _read(bench, candidate)
        blocks, spent_s = Blocks(), 0.0
        if known is not None:
            samples, spent_s = known
            settled = decided(samples)
            if not samples.method.measured or spent_s >= budget_s or settled:
                # More pairs of an estimate would tell nothing more.
                return samples, not settled
            blocks = Blocks.of(samples)
        chosen = counters(bench, candidate)
        for counter in chosen.counters:
            if (close := getattr(counter, "close", None)) is not None:
                opened.callback(close)
        if not chosen.counters and not estimate:
            advice = "; ".join(chosen.unreadable)
            raise NotCertified(chosen.missing, advice=advice)
        samples, spent = _measure(bench, candidate, chosen, blocks, decided, budget_s, spent_s)
    return samples, spent


def _measure(
    bench: Workbench,
    candidate: PlannedCandidate,
    chosen: Chosen,
    blocks: Blocks,
    decided: Callable[[EnergySamples], bool],
    budget_s: float,
    spent_s: float,
) -> tuple[EnergySamples, bool]:
    """Add pairs of blocks, and keep all of them as evidence."""
    power = None if chosen.counters else _core_power(bench, candidate, chosen)
    models = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
    clock = Clock()
    begin = clock.now_s()
    left_s = budget_s - spent_s
    how: MeasuredBlocks | EstimatedBlocks
    if power is None:
        how = MeasuredBlocks(models, Meter(chosen.counters), budget_s=left_s, clock=clock)
    else:
        how = EstimatedBlocks(models, power.watts, budget_s=left_s)
    method = _method(bench, candidate, chosen, how, power)

    def enough(taken: Blocks) -> bool:
        if power is not None:
            return len(taken) > FEWEST_PAIRS
        return len(taken) >= FEWEST_PAIRS and decided(taken.samples(method))

    words = "estimating" if power is not None else "measuring"
    spent = take_pairs(
        models,
        how,
        blocks,
        decided=enough,
        budget_s=left_s - (clock.now_s() - begin),
        generator=random.Random(len(blocks)),
        progress=lambda count: bench.progress.step(
            title(candidate),
            f"{words} energy in turns with the {candidate.counterpart} "
            f"({count_text(count, 'pair')} of blocks)",
        ),
        clock=clock,
    )
    samples = blocks.samples(method)
    name = place(candidate, ENERGY)
    arrays = {field: getattr(samples, field) for field in _ARRAYS}
    arrays["spent_s"] = np.asarray(spent_s + clock.now_s() - begin)
    bench.evidence.write_arrays(name, arrays)
    bench.evidence.write_record(f"{name}-method", method)
    return samples, spent


def _read(bench: Workbench, candidate: PlannedCandidate) -> tuple[EnergySamples, float] | None:
    """Return the pairs that were measured before, and the seconds that they took."""
    name = place(candidate, ENERGY)
    arrays = bench.evidence.read_arrays(name)
    record = bench.evidence.read_record(f"{name}-method")
    if arrays is None or record is None:
        return None
    spent_s = float(arrays.pop("spent_s"))
    return EnergySamples(**arrays, method=method_from_json(record)), spent_s


def counters(bench: Workbench, candidate: PlannedCandidate) -> Chosen:
    """Return the counters of this machine that hold the energy of both models."""
    sysfs: Path = bench.session.settings.sysfs or DEFAULT_SYSFS
    frameworks = bench.session.catalogue.frameworks
    sides = (candidate.baseline_framework, candidate.recipe.framework)
    needed = devices([frameworks[name] for name in sides], bench.session.host.accelerators)
    found = (
        find_powercap(sysfs),
        find_gpus() if NVIDIA in needed else Found(),
        find_powermetrics(),
        find_batteries(sysfs),
    )
    return choose_counters(needed, found)


def _core_power(bench: Workbench, candidate: PlannedCandidate, chosen: Chosen) -> CorePower:
    """Return the power that CPU time is multiplied with.

    Raises:
        NotCertified: CPU time says nothing of one of the two.
    """
    names = (candidate.baseline_framework, candidate.recipe.framework)
    for name in names:
        if not bench.session.catalogue.frameworks[name].cpu_time_is_valid:
            raise NotCertified(
                f"{chosen.missing}, and {name} does not compute in CPU time that an estimate could "
                "be made of",
                advice="; ".join(chosen.unreadable) or "see docs/energy.md",
            )
    stated = bench.session.gate_setting(candidate, SETTING)
    if stated is not None:
        return CorePower(float(stated), f"{SETTING} of {bench.session.manifest.path.name}")
    host = bench.session.host
    whole = not host.virtualization and host.cpu_limit is None
    return core_power(host.cpu_model, os.cpu_count() or 0, whole_processor=whole)


def _method(
    bench: Workbench,
    candidate: PlannedCandidate,
    chosen: Chosen,
    how: MeasuredBlocks | EstimatedBlocks,
    power: CorePower | None,
) -> EnergyMethod:
    model = bench.model(candidate.model.name)
    is_text = model.language is not None
    answers = 1 if is_text else bench.samples(candidate).batching.samples_per_call
    plan = how.plan
    if power is not None:
        return EnergyMethod(
            sources=("CPU time",),
            measured=False,
            domains={},
            what=f"an estimate: CPU time times {power.watts:g} W per core, {power.source}",
            not_measured=chosen.missing,
            unreadable=chosen.unreadable,
            block_s=plan.block_s,
            watts_per_core=power.watts,
            samples_per_call=answers,
        )
    sources = tuple(dict.fromkeys(counter.source for counter in chosen.counters))
    names = ", ".join(counter.name for counter in chosen.counters)
    return EnergyMethod(
        sources=sources,
        measured=not chosen.planted,
        domains={counter.name: counter.place for counter in chosen.counters},
        what=f"by {' and '.join(sources)} ({names}), idle power included",
        not_measured=chosen.planted,
        unreadable=chosen.unreadable,
        update_s=plan.update_s,
        block_s=plan.block_s,
        samples_per_call=answers,
    )


def keep_report(
    bench: Workbench, candidate: PlannedCandidate, samples: EnergySamples
) -> EnergyReport:
    """Keep the figures of both models for the report, with what they emit where a region is set."""
    settings = bench.session.settings
    carbon = None
    if settings.carbon_region is not None:
        try:
            carbon = carbon_factor(settings.carbon_region, settings.where("carbon_region"))
        except UserError as error:
            bench.progress.note(f"no emissions are reported: {error}")
    report = energy_report(samples, carbon)
    bench.evidence.write_record(place(candidate, ENERGY), report)
    return report


def try_energy(bench: Workbench, candidate: PlannedCandidate) -> None:
    """Measure energy for the report where somebody reads it; a failure is a note.

    Nothing is estimated unless a region was set, whose emissions it then stands for.
    """
    settings = bench.session.settings
    wanted = settings.diagnose or settings.html or settings.search or settings.carbon_region
    has_gate = GATE in bench.session.gates_of(candidate)
    if not wanted or has_gate or candidate.reference is not None:
        return
    try:
        samples, _ = energy(
            bench,
            candidate,
            lambda taken: taken.pairs > FEWEST_PAIRS,
            budget_s=min(settings.budget, REPORT_BUDGET_S),
            estimate=settings.carbon_region is not None,
        )
        keep_report(bench, candidate, samples)
    except NotCertified as error:
        # The same for every candidate of this machine, and noted once.
        bench.progress.note(f"energy was not measured: {error}")
    except EdgeAIError as error:
        bench.progress.note(f"{title(candidate)}: energy was not measured ({error})")
