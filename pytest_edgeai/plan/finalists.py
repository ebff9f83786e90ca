"""Which trials of a search are worth the full gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_edgeai.plan.pareto import Point, front, recommend
from pytest_edgeai.search_records import Trial
from pytest_edgeai.specification import SearchObjective


def choose_finalists(
    trials: Sequence[Trial], objective: SearchObjective, weights: Mapping[str, float], most: int
) -> tuple[Trial, ...]:
    """Return the trials that go on to the full gates, the best first.

    Those whose figures reach every threshold are chosen from; where there is none, those that miss
    one within their intervals; where there is none either, everything that was measured at all, so
    that the frontier is there to see and the gates fail as they must. Of these, ``pareto`` takes
    the frontier by the weights, and one objective takes the best in it; ties within intervals go
    to the smaller artifact.

    Args:
        trials: every trial.
        objective: what is maximized.
        weights: what the objectives count for.
        most: how many are returned at most.
    """
    whole = [trial for trial in trials if trial.state in ("measured", "finalist")]
    pool = (
        [trial for trial in whole if not trial.misses]
        or whole
        or [trial for trial in trials if trial.figures and trial.state != "failed"]
    )
    by_id = {f"{trial.number:09} {trial.recipe.id}": trial for trial in pool}
    rest = [Point(key, trial.figures, trial.size_bytes) for key, trial in by_id.items()]
    if objective == "pareto":
        rest = list(front(rest))
    else:
        weights = {objective: 1.0}
    chosen: list[Trial] = []
    while rest and len(chosen) < most:
        best = recommend(rest, weights) or min(rest, key=lambda each: each.id)
        chosen.append(by_id[best.id])
        rest.remove(best)
    return tuple(chosen)
