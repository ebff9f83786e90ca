"""``--edge-fix``: apply the remedies of the advice one by one, and report what each changed.

What ships is the manifest's own candidate, and its verdicts stay as they are: a fix is a proposal,
with the lines that would apply it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_edgeai.advice_records import Advice, Fix, FixAttempt
from pytest_edgeai.advising import (
    FIXES_RECORD,
    SENSITIVITY_RECORD,
    layer_option_of,
    situation_of,
)
from pytest_edgeai.errors import EdgeAIError, ModelError
from pytest_edgeai.judge.advice import advise
from pytest_edgeai.judge.advice_layers import HIGHEST_LAYER_WEIGHT
from pytest_edgeai.judge.advice_lines import recipe_lines, setting_lines
from pytest_edgeai.judge.advice_situation import QUALITY_GATES
from pytest_edgeai.judge.fixes import (
    effect_of,
    figure_of,
    note_of,
    settled_outcome,
    summary,
)
from pytest_edgeai.ledger import Ledger, stages_of
from pytest_edgeai.plan.selection import PlannedCandidate, Surroundings, choose
from pytest_edgeai.records import Recipe, RuntimeOptions, Verdict
from pytest_edgeai.restoring import layer_sensitivity
from pytest_edgeai.session import Session
from pytest_edgeai.verdicts import reach_verdict
from pytest_edgeai.workbench import Workbench, place, title

FIRST_GATES = ("accuracy_retained", "slice_retained", "output_sanity", "precision_proof")
"""Judged first: what breaks one of them is not worth timing."""
RANKING_SHARE = 0.25
"""Share of the time box that ranking the layers may take."""
MOST_RANKING_S = 60.0
LEAST_STEP_S = 10.0
"""A step of a worker gets this long even at the end of the time box."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class _State:
    """Where fixing one candidate stands.

    Attributes:
        candidate: the manifest's candidate, or the one that the last kept remedy made.
        verdicts: gate name to the verdict that holds for it.
        anew: gates that were judged with it.
    """

    candidate: PlannedCandidate
    verdicts: Mapping[str, Verdict]
    anew: frozenset[str] = frozenset()


def fix_candidates(bench: Workbench, ledger: Ledger, *, clock: Clock = time.monotonic) -> None:
    """Try to fix every candidate that failed a gate, and keep the attempts as evidence.

    A candidate that several targets share is fixed for each, since their limits differ.

    Args:
        bench: whose models are prepared; it is not used for measuring.
        ledger: what was decided.
        clock: returns seconds.
    """
    used: dict[tuple[str, str], str] = {}
    for candidate in bench.session.candidates:
        gates = bench.session.gates_of(candidate)
        verdicts = {verdict.gate: verdict for verdict in ledger.of(candidate, gates)}
        if candidate.unavailable or not _open_gates(bench.session, candidate, verdicts):
            continue
        own = Workbench(bench.session, bench.progress)
        fixing = Fixing(own, candidate, verdicts, clock, used)
        try:
            _share_model(bench, own, candidate.model.name)
            fixing.run()
        except EdgeAIError as error:
            bench.progress.note(f"{title(candidate)}: it could not be fixed ({error})")
        finally:
            own.close()
            # What was tried before an interruption is in the report, too.
            bench.evidence.write_record(
                f"{candidate.model.name}/{candidate.node}/{FIXES_RECORD}",
                {"attempts": fixing.attempts},
            )


def _share_model(bench: Workbench, own: Workbench, name: str) -> None:
    """Let a workbench use the model that another prepared, unless its files are gone.

    Where processes of pytest-xdist measured, the controlling process has none.
    """
    if bench.scratch.is_dir():
        own.once(("model", name), lambda: bench.model(name))


def _open_gates(
    session: Session, candidate: PlannedCandidate, verdicts: Mapping[str, Verdict]
) -> list[str]:
    """Return the gates that a remedy would have to turn; a known failure is not one of them.

    A speed that was measured on a proxy host turns nothing.
    """
    return [
        gate
        for gate, verdict in verdicts.items()
        if verdict.outcome in ("fail", "error") and not session.known_failure(candidate, gate)
    ]


class Fixing:
    """Applies remedies to one candidate within a time box.

    Attributes:
        attempts: what was tried, in order.
    """

    def __init__(
        self,
        bench: Workbench,
        candidate: PlannedCandidate,
        verdicts: Mapping[str, Verdict],
        clock: Clock,
        used: dict[tuple[str, str], str],
    ) -> None:
        """Start from the verdicts of the manifest's own candidate.

        Args:
            bench: makes and measures for this candidate alone.
            candidate: the manifest's own.
            verdicts: gate name to what was decided about it.
            clock: returns seconds.
            used: model and recipe id to what was made under it in this session's fixes; added to.
        """
        self._bench = bench
        self._session = bench.session
        self._original = candidate
        self._state = _State(candidate, dict(verdicts))
        self._clock = clock
        self._started = clock()
        self._used = used
        self._tried: set[str] = {_address(candidate)}
        self.attempts: list[FixAttempt] = []

    def run(self) -> None:
        """Apply one remedy after the other, and keep what each changed in `attempts`."""
        while self._left_s() > 0 and self._open():
            advice = self._next()
            if advice is None or advice.fix is None or self._left_s() <= 0:
                break
            self._attempt(advice, advice.fix)
        self._tell()

    def _left_s(self) -> float:
        return self._session.settings.fix_budget - (self._clock() - self._started)

    def _open(self) -> list[str]:
        return _open_gates(self._session, self._original, self._state.verdicts)

    def _next(self) -> Advice | None:
        """Return the weightiest advice that can be applied and was not tried."""
        found = self._untried()
        lost = any(gate in QUALITY_GATES for gate in self._open())
        # Ranking takes long, and what it may find is not tried before anything weightier.
        if lost and not (found and found[0].weight > HIGHEST_LAYER_WEIGHT) and self._rank_layers():
            found = self._untried()
        return found[0] if found else None

    def _untried(self) -> list[Advice]:
        candidate = self._state.candidate
        evidence = self._bench.evidence
        advice = advise(
            situation_of(
                self._session,
                evidence,
                candidate,
                tuple(self._state.verdicts.values()),
                stages_of(evidence, f"{candidate.model.name}/{candidate.comparison}"),
            )
        )
        return [
            each
            for each in advice
            if each.fix is not None
            and set(each.gates) & set(self._open())
            and _address(self.changed(each.fix)) not in self._tried
        ]

    def _rank_layers(self) -> bool:
        """Measure how harmful each layer is, once per candidate; return whether that is news."""
        candidate = self._state.candidate
        name = place(candidate, SENSITIVITY_RECORD)
        if not layer_option_of(self._session, candidate):
            return False
        if self._bench.evidence.read_record(name) is not None:
            return False

        def rank() -> bool:
            box_s = min(MOST_RANKING_S, RANKING_SHARE * self._left_s())
            try:
                layer_sensitivity(self._bench, candidate, time_box_s=box_s)
            except EdgeAIError as error:
                self._bench.progress.note(
                    f"{title(candidate)}: its layers were not ranked ({error})"
                )
                return False
            return True

        known = ("layers ranked", candidate.recipe.id)
        return self._bench.once(known, rank)

    def changed(self, fix: Fix) -> PlannedCandidate:
        """Return the candidate with a fix, planned as the manifest's recipe would be.

        Evidence goes by the recipe's name, so that what is made or run otherwise gets another one.
        """
        candidate = self._state.candidate
        runtime = candidate.runtime
        recipe = fix.recipe or candidate.recipe
        is_other = recipe.framework != candidate.recipe.framework
        if "threads" in fix.settings or (runtime is not None and is_other):
            # Hints are one framework's own.
            threads = fix.settings.get("threads", runtime.threads if runtime is not None else 1)
            device = self._session.catalogue.frameworks[recipe.framework].device
            hints = {} if runtime is None or is_other else runtime.hints
            runtime = RuntimeOptions(int(threads), device, hints)
        label, number = recipe.label, 1
        while True:
            planned = replace(self._planned(recipe), runtime=runtime)
            known = self._used.get((candidate.model.name, recipe.id))
            if known == _address(planned) or (known is None and recipe != candidate.recipe):
                return planned
            number += 1
            recipe = replace(recipe, label="-".join(filter(None, (label, f"fix{number}"))))

    def remember(self, changed: PlannedCandidate) -> None:
        """Keep what a candidate is made by, so that it is tried once and its name is its own."""
        self._tried.add(_address(changed))
        self._used[changed.model.name, changed.recipe.id] = _address(changed)

    def _planned(self, recipe: Recipe) -> PlannedCandidate:
        candidate, session = self._state.candidate, self._session
        if recipe.framework == candidate.recipe.framework:
            suffix = candidate.node.removeprefix(candidate.recipe.id)
            return replace(candidate, recipe=recipe, node=f"{recipe.id}{suffix}")
        around = Surroundings(
            frameworks=session.catalogue.frameworks,
            requested=(recipe.framework,),
            choose_recipes=lambda model, facts, framework, target: None,
            missing=session.installations.missing,
            host=session.host,
            name_target="@" in candidate.node,
        )
        model = replace(candidate.model, recipes=(recipe,))
        choice = choose(model, session.facts[model.name], candidate.target, around)
        if not choice.candidates:
            raise ModelError(f"{recipe.id} cannot be planned ({'; '.join(choice.path)})")
        return replace(choice.candidates[0], model=candidate.model)

    def _attempt(self, advice: Advice, fix: Fix) -> None:
        began = self._clock()
        known, changed = self._state.verdicts, self.changed(fix)
        self.remember(changed)
        self._bench.progress.step(
            title(self._original), f"applying a remedy: {advice.rule} ({advice.remedy})"
        )
        after: dict[str, Verdict] = {}
        problem = self._judge_all(changed, self._gates_for(advice), after)
        passes = all(
            settled_outcome(after[gate]) == "pass" for gate in self._open() if gate in after
        )
        if not problem and passes and not effect_of(known, after).broken:
            # With what failed cured, the other gates have to hold too.
            self._judge_all(changed, [gate for gate in known if gate not in after], after)
        effect = effect_of(known, after)
        errors = [v.reason for v in after.values() if v.outcome == "error"]
        problem = problem or (errors[0] if errors else "")
        kept = not problem and not effect.broken and bool(effect.turned or effect.improved)
        self.attempts.append(
            FixAttempt(
                rule=advice.rule,
                applied=self.lines(changed),
                candidate=changed.node,
                before={gate: figure_of(known.get(gate)) for gate in after},
                after={gate: figure_of(verdict) for gate, verdict in after.items()},
                outcome_after={gate: verdict.outcome for gate, verdict in after.items()},
                seconds=self._clock() - began,
                kept=kept,
                problem=problem,
                note=note_of(effect),
            )
        )
        if kept:
            self._state = _State(changed, {**known, **after}, frozenset(after))

    def _judge_all(
        self, candidate: PlannedCandidate, gates: Sequence[str], after: dict[str, Verdict]
    ) -> str:
        """Judge gates until one is broken or time is up; return what was not judged, in words."""
        for gate in gates:
            if self._left_s() <= 0:
                return f"the time box ended before {gate} was judged"
            verdict = self._judge(candidate, gate)
            if verdict.outcome == "error" and self._left_s() <= 0:
                return f"the time box ended while {gate} was judged"
            after[gate] = verdict
            if effect_of(self._state.verdicts, after).broken:
                break
        return ""

    def lines(self, changed: PlannedCandidate) -> tuple[str, ...]:
        """Return the manifest lines that make the manifest's candidate into the changed one."""
        lines: tuple[str, ...] = ()
        old, new = self._original.recipe, changed.recipe
        if (old.framework, old.scheme, old.options) != (new.framework, new.scheme, new.options):
            listed = [recipe.id for recipe in changed.model.recipes or ()]
            lines += recipe_lines(changed.model.name, new, old.id if old.id in listed else "")
        stated = self._session.settings.threads
        threads = changed.threads(stated)
        if threads != self._original.threads(stated):
            lines += setting_lines({"threads": threads})
        return lines

    def _gates_for(self, advice: Advice) -> list[str]:
        """Return the gates to judge: accuracy first, then what failed, what may turn, and speed."""
        known = self._state.verdicts
        wanted = (*FIRST_GATES, *self._open(), *advice.gates, "artifact_size", "speedup")
        return [gate for gate in dict.fromkeys(wanted) if gate in known]

    def _judge(self, candidate: PlannedCandidate, gate: str) -> Verdict:
        """Judge one gate by the session's own rules, in what is left of the time box."""
        left_s = max(self._left_s(), LEAST_STEP_S)
        settings = self._session.settings
        bounded = replace(
            settings,
            budget=min(settings.budget, left_s),
            time_limit=min(settings.time_limit, left_s),
        )
        self._bench.session = replace(self._session, settings=bounded)
        return reach_verdict(self._bench, candidate, gate)

    def _tell(self) -> None:
        state = self._state
        if self.attempts:
            told = summary(self.attempts, self._open(), state.verdicts, state.anew)
            self._bench.progress.note(f"{title(self._original)}: {told}")


def _address(candidate: PlannedCandidate) -> str:
    """Return what tells candidates apart: how they are made and run, whatever they are called."""
    recipe = candidate.recipe
    options = sorted((name, repr(value)) for name, value in recipe.options.items())
    return f"{recipe.framework} {recipe.scheme} {options} {candidate.runtime}"
