"""What several rules of advice say in the same words."""

from __future__ import annotations

from pytest_edgeai.advice_records import Fix
from pytest_edgeai.judge.advice_lines import recipe_lines
from pytest_edgeai.judge.advice_situation import QUALITY_GATES, SPEED_GATES, Situation
from pytest_edgeai.judge.verdict import percent_text, ratio_text
from pytest_edgeai.records import Recipe


def replaced(situation: Situation, recipe: Recipe | None) -> tuple[tuple[str, ...], Fix | None]:
    """Return the manifest lines and the fix that put ``recipe`` in the candidate's place."""
    if recipe is None:
        return (), None
    old = situation.recipe.id
    instead_of = old if old in situation.listed else ""
    return recipe_lines(situation.model, recipe, instead_of), Fix(recipe)


def slow_text(situation: Situation) -> str:
    """Return which gates of speed it fails, with what they observed."""
    return "; ".join(
        f"{v.gate} is {ratio_text(v.observed)}, {ratio_text(v.threshold)} required"
        if v.observed is not None
        else f"{v.gate} fails"
        for v in situation.failed(*SPEED_GATES)
    )


def loss_text(s: Situation) -> str:
    """Return which gates of quality it fails, with what they observed."""
    return "; ".join(
        f"{v.gate} is {percent_text(v.observed)}, {percent_text(v.threshold)} required"
        if v.observed is not None and v.unit == "ratio"
        else f"{v.gate} failed"
        for v in s.failed(*QUALITY_GATES)
    )
