"""Run one trial in a process of its own, with a time limit; whatever happens is an outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contest.cases import (
    DRAWN_SAMPLES,
    FLOOR,
    LOSSES,
    RETAINED,
    THRESHOLDS,
    Case,
)
from benchmarks.contest.contestants import Contestant
from benchmarks.contest.drivers.exchange import Request
from benchmarks.contest.subjects import Evaluation
from benchmarks.contest.trials import Cell, Trial
from pytest_edgeai.selfcheck.accuracy import BASELINE_ACCURACY, GAIN_RATIO
from pytest_edgeai.selfcheck.disturbance import bursts
from pytest_edgeai.selfcheck.noise import cores

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).resolve().parent / "planted"
TIME_LIMIT_S = 120.0
DRAWING_S = 8.0
_LONGEST_REASON = 300


def run_trial(
    contestant: Contestant,
    python: Path,
    case: Case,
    *,
    repetitions: int,
    data: Evaluation,
    seed: int,
) -> list[Trial]:
    """Run a contestant on a case once.

    Args:
        contestant: who.
        python: the interpreter that has it.
        case: which.
        repetitions: work of the baseline.
        data: evaluation data; that of the case where it asks for wrong labels.
        seed: of the drawn predictions; contestants with the same seed get the same draws.

    Returns:
        One trial for each variant.
    """
    with tempfile.TemporaryDirectory(prefix="edgeai-contest-") as scratch:
        folder = Path(scratch)
        request = _request(case, folder, repetitions, data, seed)
        source, target = folder / "request.json", folder / "answer.json"
        source.write_text(request.as_json(), encoding="utf-8")
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        when = datetime.now(UTC).isoformat(timespec="seconds")
        disturbing = {"none": 0, "one-core": 1, "all-cores": cores()}[case.load]
        with bursts(disturbing):
            begin = time.monotonic()
            failure = _run(contestant, python, [source, target], folder)
            seconds = time.monotonic() - begin
        answer: dict[str, Any] = {}
        if not failure:
            answer = json.loads(target.read_text("utf-8")) if target.is_file() else {}
            failure = {} if answer else {"outcome": "crash", "reason": "it gave no answer"}

    def trial(variant: str, outcome: str, reason: str = "", cells: tuple[Cell, ...] = ()) -> Trial:
        spent = round(seconds, 4)
        return Trial(contestant.name, case.name, variant, outcome, spent, reason, when, load, cells)

    if "cells" in answer:
        cells = tuple(Cell(**cell) for cell in answer["cells"])
        return [trial("", "drawn", cells=cells)]
    said = answer.get("said", {})
    trials = []
    for variant in contestant.variants:
        # An exception of the driver is an answer without a variant: it is that of all.
        words = failure or said.get(variant) or said.get("") or {"outcome": "crash", "reason": ""}
        trials.append(trial(variant, **words))
    return trials


def _request(case: Case, folder: Path, repetitions: int, data: Evaluation, seed: int) -> Request:
    work = folder / "work"
    work.mkdir()
    return Request(
        kind=case.kind,
        detail=case.detail,
        slower=case.slower,
        retained=RETAINED,
        floor=FLOOR,
        baseline=case.baseline.write(folder / "baseline", repetitions),
        candidate=case.candidate.write(folder / "candidate", repetitions),
        inputs=data.inputs,
        labels=data.labels,
        archive=data.archive,
        folder=work,
        planted=PLANTED,
        draws={
            "seed": seed,
            "seconds": DRAWING_S,
            "thresholds": THRESHOLDS,
            "losses": LOSSES,
            "samples": DRAWN_SAMPLES,
            "accuracy": BASELINE_ACCURACY,
            "gain": GAIN_RATIO,
        },
    )


def _run(contestant: Contestant, python: Path, files: list[Path], folder: Path) -> dict[str, str]:
    """Run the driver; return why there is no answer, or nothing."""
    command = [str(python), "-m", f"benchmarks.contest.drivers.{contestant.driver}"]
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(temporary),
    }
    process = subprocess.Popen(
        [*command, *map(str, files)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        _end(process)
        return {"outcome": "timeout", "reason": f"no verdict after {TIME_LIMIT_S:g} s"}
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or [""]
        reason = f"exit code {process.returncode}: {last[0]}"[:_LONGEST_REASON]
        return {"outcome": "crash", "reason": reason}
    return {}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a driver and what it started: they share its process group."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
