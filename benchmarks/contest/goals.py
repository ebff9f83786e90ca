"""The goals of the contest, and whether they are reached."""

from __future__ import annotations

import statistics

from benchmarks.contest.cases import BY_NAME, THRESHOLDS, fault_cases
from benchmarks.contest.contestants import CONTESTANTS
from benchmarks.contest.counting import (
    Counts,
    count_cases,
    count_draws,
    count_trials,
    speed_accuracy,
    verdict_seconds,
)
from benchmarks.contest.trials import Record
from pytest_edgeai.selfcheck.rates import Rate

OURS = CONTESTANTS[0]
MOST_FALSE_ALARMS = 0.01
LEAST_FOUND = 0.99


def goal_rows(record: Record) -> list[tuple[str, str, str]]:
    """Return goal, what was found, and whether it is met, for this project."""
    rows = []
    quiet = _cases(record, "same")
    loaded = _cases(record, "same-busy-core", "same-busy-machine")
    for name, counts in (("", quiet), (", beside bursts", loaded)):
        rows.append(
            (
                f"false alarms on the same model{name}: at most 1%",
                _text(counts, counts.wrong_rate, "wrong"),
                _below(counts.wrong_rate, MOST_FALSE_ALARMS),
            )
        )
    rows += _found("a slowdown of 15%", _cases(record, "slower-15"))
    for threshold in THRESHOLDS:
        counts, _ = count_draws(
            record.of(OURS.name, "draws", ""), threshold=threshold, loss=0.06, samples=1000
        )
        rows += _found(f"a loss of 6% at n = 1,000, {threshold:.0%} asked,", counts)
    rows.append(_never_a_pass(record))
    rows.append(_time(record))
    return rows


def _found(fault: str, counts: Counts) -> list[tuple[str, str, str]]:
    """Return how often a fault is named, and how often it is kept from shipping."""
    return [
        (
            f"{fault} is called a failure: at least 99%",
            _text(counts, counts.right_rate, "found"),
            _above(counts.right_rate, LEAST_FOUND),
        ),
        (
            f"{fault} does not pass: at least 99%",
            _text(counts, counts.held_back_rate, "held back"),
            _above(counts.held_back_rate, LEAST_FOUND),
        ),
    ]


def _cases(record: Record, *names: str) -> Counts:
    return count_cases(record, OURS, "", (BY_NAME[name] for name in names))


def _text(counts: Counts, found: Rate, word: str) -> str:
    if not counts.trials:
        return "not run"
    text = (
        f"{found.count:,}/{found.trials:,} {word} [{100 * found.low:.1f}%, {100 * found.high:.1f}%]"
    )
    return f"{text}, {counts.undecided:,} undecided" if counts.undecided else text


def _below(found: Rate, most: float) -> str:
    if not found.trials:
        return ""
    if found.high <= most:
        return "met"
    if found.low > most:
        return "**missed**"
    share = found.count / found.trials
    return "so far met, too few trials" if share <= most else "so far missed, too few trials"


def _above(found: Rate, least: float) -> str:
    if not found.trials:
        return ""
    if found.low >= least:
        return "met"
    if found.high < least:
        return "**missed**"
    share = found.count / found.trials
    return "so far met, too few trials" if share >= least else "so far missed, too few trials"


def _never_a_pass(record: Record) -> tuple[str, str, str]:
    passed, trials = [], 0
    for case in fault_cases():
        counts = count_trials(case, record.of(OURS.name, case.name, ""))
        trials += counts.trials
        if counts.wrong:
            passed.append(f"{case.name} ({counts.wrong}/{counts.trials})")
    found = f"0/{trials} pass" if not passed else "passed: " + ", ".join(passed)
    state = "" if not trials else "**missed**" if passed else "met"
    return "no fault of cases 4 to 8 ever passes", found, state


def _time(record: Record) -> tuple[str, str, str]:
    goal = "verdict time: at most that of the fastest peer with half our share of right verdicts"
    ours = speed_accuracy(record, OURS, "")
    seconds = verdict_seconds(record, OURS, "")
    if ours is None or not seconds:
        return goal, "not run", ""
    peers = []
    for contestant in CONTESTANTS[1:]:
        for variant in contestant.variants:
            share = speed_accuracy(record, contestant, variant)
            theirs = verdict_seconds(record, contestant, variant)
            if share is not None and theirs and share >= ours / 2:
                peers.append((statistics.median(theirs), contestant.title(variant), share))
    mine = statistics.median(seconds)
    found = f"{mine:.1f} s, {ours:.0%} of the verdicts on speed right"
    if not peers:
        return goal, f"{found}; no peer reaches half of that", "met"
    fastest = min(peers)
    found += f"; {fastest[1]}: {fastest[0]:.1f} s, {fastest[2]:.0%} right"
    return goal, found, "met" if mine <= fastest[0] else "**missed**"
