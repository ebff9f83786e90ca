"""Run the contest: who judges the planted cases rightly, and in what time?

    python -m benchmarks.contest --minutes 15
    python -m benchmarks.contest --minutes 0 --write docs/contest.md

Each trial is a process of its own with a time limit. Trials are spread over contestants and cases
in turns, so that all see the same machine; they are kept in a JSON file, and a later run adds to
it. The contestants are installed once, each into an environment of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import cases, contestants
from benchmarks.contest.cases import Case
from benchmarks.contest.contestants import Contestant
from benchmarks.contest.environments import CannotInstall, default_folder, interpreter
from benchmarks.contest.host import host_text, installed_version
from benchmarks.contest.page import replace_tables
from benchmarks.contest.running import run_trial
from benchmarks.contest.schedule import next_pair
from benchmarks.contest.subjects import measure_repetitions, write_evaluation
from benchmarks.contest.tables import all_tables
from benchmarks.contest.trials import Record


def main() -> int:
    """Run, tabulate, and write what is asked for."""
    arguments = _arguments()
    folder: Path = arguments.folder
    path: Path = arguments.json or folder / "contest.json"
    with tempfile.TemporaryDirectory(prefix="edgeai-contest-") as scratch:
        record = _record(path, Path(scratch), fresh=arguments.fresh)
        if arguments.minutes > 0:
            _run(record, path, arguments, Path(scratch))
    text = all_tables(record)
    print(text)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    if arguments.write:
        page: Path = arguments.write
        page.write_text(replace_tables(page.read_text("utf-8"), text), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contest", description=(__doc__ or "").splitlines()[0]
    )
    names = [contestant.name for contestant in contestants.CONTESTANTS]
    parser.add_argument("--minutes", type=float, default=15.0, help="time for trials; 0: tables")
    parser.add_argument("--only", default="", help=f"contestants, of {', '.join(names)}")
    parser.add_argument("--cases", default="", help="cases, or kinds of them (speed, outputs ...)")
    parser.add_argument(
        "--folder", type=Path, default=default_folder(), help="of environments and results"
    )
    parser.add_argument("--json", type=Path, help="the record (default: contest.json in --folder)")
    parser.add_argument("--fresh", action="store_true", help="start a new record")
    parser.add_argument("--write", type=Path, help="a page whose tables are replaced")
    arguments = parser.parse_args()
    try:
        arguments.only = chosen(arguments.only, contestants.CONTESTANTS)
        arguments.cases = _chosen_cases(arguments.cases)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def chosen(text: str, known: Sequence[Contestant]) -> list[Contestant]:
    """Return the contestants that a text names, separated by commas; all where it is empty.

    Raises:
        ValueError: nobody is called so.
    """
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    names = {contestant.name: contestant for contestant in known}
    for name in wanted:
        if name not in names:
            raise ValueError(f"no contestant {name!r}: {', '.join(names)}")
    return [names[name] for name in wanted] or list(known)


def _chosen_cases(text: str) -> list[Case]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    allowed = {case.name for case in cases.CASES} | {case.kind for case in cases.CASES}
    for name in wanted:
        if name not in allowed:
            raise ValueError(f"no case {name!r}: {', '.join(sorted(allowed))}")
    return [case for case in cases.CASES if not wanted or {case.name, case.kind} & set(wanted)]


def _record(path: Path, scratch: Path, *, fresh: bool) -> Record:
    if path.is_file() and not fresh:
        return Record.load(path)
    return Record(host_text(), measure_repetitions(scratch / "calibration"))


def _run(record: Record, path: Path, arguments: argparse.Namespace, scratch: Path) -> None:
    if record.host != host_text():
        raise SystemExit(f"{path} was measured on {record.host}; take another --json, or --fresh")
    pythons: dict[str, Path] = {}
    for contestant in arguments.only:
        try:
            python = interpreter(contestant, arguments.folder, _say)
        except CannotInstall as error:
            record.absent[contestant.name] = str(error)
            _say(f"{contestant.name} cannot be installed: {error}")
            continue
        record.absent.pop(contestant.name, None)
        pythons[contestant.name] = python
        for name in (contestant.shown, "onnxruntime"):
            if name:
                record.versions[name] = installed_version(python, name)
    data = write_evaluation(scratch / "data")
    unknown = write_evaluation(scratch / "wrong-data", wrong=True)
    present = [c for c in arguments.only if c.name in pythons]
    end = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < end:
        counts = record.counted()
        pair = next_pair(present, arguments.cases, counts)
        if pair is None:
            _say("every case has as many trials as it needs")
            break
        contestant, case = pair
        trials = run_trial(
            contestant,
            pythons[contestant.name],
            case,
            repetitions=record.repetitions,
            data=unknown if case.detail == "never-right" else data,
            seed=counts.get((contestant.name, case.name), 0),
        )
        record.trials += trials
        record.save(path)
        said = ", ".join(trial.outcome for trial in trials)
        left = max(0.0, end - time.monotonic()) / 60
        took = f"{trials[0].seconds:.1f} s"
        _say(f"{left:5.1f} min left  {contestant.name}: {case.name}: {said} ({took})")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
