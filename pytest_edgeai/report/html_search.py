"""What a search tried, as a part of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytest_edgeai.report.html_parts import Column, bullets, facts, folded, table
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.quantities import format_quantity
from pytest_edgeai.search_records import SearchReport, Trial

MOST_TRIALS = 200
"""Trials of a search that its table holds; the counts above it cover all."""
TITLES = {
    "speedup": "speedup",
    "accuracy_retained": "accuracy retained",
    "memory_cut": "memory saved",
    "energy_retained": "energy",
}
"""Objectives as the page calls them."""


def search_section(target: str, search: SearchReport) -> Markup:
    """Return what a search tried and what came of it."""
    states = Counter(trial.state for trial in search.trials)
    counts = ", ".join(f"{count} {state.replace('-', ' ')}" for state, count in states.items())
    names = list(dict.fromkeys(name for trial in search.trials for name in trial.figures))
    columns = (
        Column("trial", "number"),
        Column("recipe", "code"),
        Column("state"),
        *(Column(TITLES.get(name, name), "number") for name in names),
        Column("time", "number"),
        Column("why it ended there"),
    )
    rows = [_trial(trial, names) for trial in search.trials[:MOST_TRIALS]]
    shown = f"first {MOST_TRIALS} of " if len(search.trials) > MOST_TRIALS else ""
    restored = [
        join((element("strong", candidate), f": {', '.join(layers)}"))
        for candidate, layers in search.restored.items()
        if layers
    ]
    return element(
        "section",
        element("h3", f"Search for {target}"),
        facts(
            (
                ("trials", f"{len(search.trials)}: {counts}" if counts else "none"),
                ("ended by", search.ended),
                ("took", f"{search.seconds:.0f} s"),
                ("finalists", ", ".join(search.finalists)),
                ("study", f"{search.study} in {search.storage}"),
                (
                    "space",
                    "; ".join(f"{name}: {_values(value)}" for name, value in search.space.items()),
                ),
                ("settings", "; ".join(f"{k} = {v}" for k, v in search.settings.items())),
            )
        ),
        element("p", "Layers kept at full precision, most harmful first:") if restored else None,
        bullets(restored),
        folded(
            f"The {shown}{len(search.trials)} trials, measured on the selection data",
            table(columns, rows, label=f"Trials for {target}", layout="scrolls"),
        ),
        class_="search",
    )


def _values(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _trial(trial: Trial, names: Sequence[str]) -> list[Child]:
    figures = []
    for name in names:
        figure_ = trial.figures.get(name)
        observed = figure_.observed if figure_ else None
        figures.append(format_quantity(observed, "times" if name == "speedup" else "share"))
    options = ", ".join(f"{key}={value}" for key, value in trial.recipe.options.items())
    recipe = f"{trial.recipe.framework} {trial.recipe.scheme}{f' ({options})' if options else ''}"
    return [
        str(trial.number),
        recipe,
        trial.state.replace("-", " "),
        *figures,
        f"{trial.seconds:.1f} s",
        trial.reason,
    ]
