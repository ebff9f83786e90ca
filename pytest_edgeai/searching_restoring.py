"""The last step of a search: give what is fast and not accurate enough some layers back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import JSON, to_json
from pytest_edgeai.restoring import restore_layers
from pytest_edgeai.search_reading import trial_from_json
from pytest_edgeai.search_records import Trial
from pytest_edgeai.searching_study import Study
from pytest_edgeai.searching_trial import Constraint, measure_trial
from pytest_edgeai.workbench import Workbench

KEPT = "restored"
"""What the study keeps of it, beside Optuna's trials: Optuna has no dimension for layers."""
ACCURACY = "accuracy_retained"
FEWEST_SECONDS = 5.0
"""Below that nothing is begun."""


@dataclass(frozen=True)
class Restored:
    """A trial whose recipe keeps layers at full precision.

    Attributes:
        trial: the trial.
        layers: the layers, the most harmful first.
        of: id of the recipe that they were restored in.
    """

    trial: Trial
    layers: tuple[str, ...]
    of: str


def restored_of(study: Study) -> tuple[Restored, ...]:
    """Return what was restored in a study before."""
    return tuple(
        Restored(trial_from_json(raw["trial"]), tuple(raw["layers"]), raw["of"])
        for raw in study.read(KEPT) or ()
    )


def worth_restoring(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial that misses accuracy alone and would be worth more than what keeps it.

    That is the fastest one, where it is faster than everything that keeps every threshold; where
    nothing does, one whose speed was not measured will do, too.
    """

    def speed(trial: Trial) -> float:
        figure = trial.figures.get("speedup")
        return figure.observed if figure is not None else 0.0

    keeping = [trial for trial in trials if trial.state == "measured" and not trial.misses]
    missing = [trial for trial in trials if set(trial.misses) == {ACCURACY}]
    best = max(missing, key=lambda trial: (speed(trial), -trial.number), default=None)
    if best is None or (keeping and speed(best) <= max(map(speed, keeping))):
        return None
    return best


def restore_best(
    bench: Workbench,
    study: Study,
    candidate_of: Callable[[Trial], PlannedCandidate],
    constraints: Mapping[str, Constraint],
    deadline_s: float,
    stage: Callable[[str], None],
) -> str:
    """Restore layers of the best trial that misses accuracy alone, and measure what comes of it.

    Args:
        bench: a workbench whose evaluation data are the selection data.
        study: keeps what comes of it.
        candidate_of: makes the candidate of a trial.
        constraints: gate to its threshold.
        deadline_s: when the search ends, by ``time.monotonic``.
        stage: told the step.

    Returns:
        Why nothing was restored although something was worth it, in one sentence; else empty.
    """
    known = restored_of(study)
    chosen = worth_restoring([*study.trials(), *(each.trial for each in known)])
    limit = constraints[ACCURACY].threshold.value
    left_s = deadline_s - time.monotonic()
    if chosen is None or limit is None or not constraints[ACCURACY].on:
        return ""
    if any(each.of == chosen.recipe.id or each.trial == chosen for each in known):
        return ""
    if left_s < FEWEST_SECONDS:
        return f"no time was left to restore layers of {chosen.recipe.id}"
    candidate = candidate_of(chosen)
    stage(f"restoring layers of {chosen.recipe.id}")
    try:
        found = restore_layers(bench, candidate, retained_more_than=limit, time_box_s=left_s)
    except EdgeAIError as error:
        return f"no layer of {chosen.recipe.id} could be restored: {error}"
    if not found.restored:
        return f"restoring layers of {chosen.recipe.id} did not help ({found.ended})"
    better = replace(candidate, recipe=found.recipe, node=found.recipe.id)
    measured = measure_trial(bench, better, constraints, stage).trial
    numbers = [trial.number for trial in study.trials()]
    trial = replace(measured, number=max(numbers, default=-1) + 1 + len(known))
    entry: JSON = {
        "trial": to_json(trial),
        "layers": list(found.restored),
        "of": chosen.recipe.id,
    }
    study.keep(KEPT, [*(study.read(KEPT) or ()), entry])
    return ""
