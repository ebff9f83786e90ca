"""Replay recorded requests through two models, until what they agree on is decided."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.measure.agreement import Outputs
from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.consistency import output_spreads
from pytest_edgeai.measure.dataset import Batching, stage_arrays
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.measure.quality import select_outputs
from pytest_edgeai.measure.shadow_answers import SameAnswer, compare_answers
from pytest_edgeai.production_records import TrafficWindow

FIRST_PART = 64
GROWTH = 1.5
LONGEST_PART_S = 5.0
WINDOWS = 10
MOST_KEPT_BYTES = 512 << 20
"""Answers that are held for the metric; models with larger ones are compared without it."""

Decided = Callable[[NDArray[np.float64]], bool]


@dataclass(eq=False)
class Replay:
    """What has been replayed so far.

    Attributes:
        order: the requests in the order of drawing.
        agreement: one part after the other, in that order.
        near_ties: requests with another class that the baseline hardly preferred less.
        seconds: seconds per request of baseline and candidate, one pair for each part.
        kept: outputs of both models by part, for the metric; emptied where they grow too large.
        is_kept: whether that did not happen.
    """

    order: list[int] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    near_ties: int = 0
    seconds: list[tuple[float, float]] = field(default_factory=list)
    kept: tuple[list[Outputs], list[Outputs]] = field(default_factory=lambda: ([], []))
    is_kept: bool = True


def draw_order(requests: int, seed: int) -> NDArray[np.int64]:
    """Return the order in which requests are drawn: at random, so that every part is of all times.

    A recording has quiet hours and others. A test that stopped early after the first requests in
    recorded order would have judged the first hour alone.
    """
    return np.random.default_rng(seed).permutation(requests)


def part_sizes(requests: int, samples_per_call: int) -> Callable[[int, float], int]:
    """Return what gives the size of the next part, asked with the requests and seconds so far."""

    def size(done: int, seconds: float) -> int:
        wanted = FIRST_PART if not done else int(done * (GROWTH - 1)) or 1
        if done and seconds > 0:
            wanted = min(wanted, max(1, int(done * LONGEST_PART_S / seconds)))
        calls = -(-wanted // samples_per_call)
        return min(requests - done, calls * samples_per_call)

    return size


def replay_tensors(
    models: tuple[LoadedRunnable, LoadedRunnable],
    arrays: Mapping[str, NDArray[Any]],
    batching: Batching,
    folder: Path,
    *,
    choose_same: Callable[[Outputs], SameAnswer],
    selected: str | None,
    decided: Decided,
    keeps: bool,
    budget_s: float,
    seed: int,
    progress: Callable[[int], None],
) -> tuple[Replay, SameAnswer]:
    """Replay requests part by part; within a part they come in recorded order.

    Args:
        models: baseline and candidate; which of them answers a part first alternates.
        arrays: the recorded inputs, axis 0 the requests.
        batching: how requests become calls.
        folder: for inputs and outputs of one part; emptied after each.
        choose_same: returns what makes two answers the same, given the baseline's first ones.
        selected: the only output that is compared; ``None`` for all.
        decided: asked after each part, with the agreement so far in the order of drawing.
        keeps: whether a metric will read the outputs.
        budget_s: time after which no further part begins.
        seed: of the order.
        progress: told the number of requests replayed.

    Returns:
        what was replayed, and what made two answers the same.
    """
    requests = len(next(iter(arrays.values())))
    order = draw_order(requests, seed)
    next_size = part_sizes(requests, batching.samples_per_call)
    replay = Replay(is_kept=keeps)
    same: SameAnswer | None = None
    units: Mapping[str, float] = {}
    begin = time.monotonic()
    while len(replay.order) < requests:
        spent_s = time.monotonic() - begin
        if replay.order and spent_s >= budget_s:
            break
        done = len(replay.order)
        part = np.sort(order[done : done + next_size(done, spent_s)])
        staged = {name: array[part] for name, array in arrays.items()}
        samples = Samples(stage_arrays(staged, folder / "inputs"), len(part), batching)
        outputs, seconds = _answer(
            models, samples, folder, baseline_first=len(replay.seconds) % 2 == 0
        )
        if same is None:
            same, units = choose_same(outputs[0]), output_spreads(outputs[0])
        agreement, near = compare_answers(
            select_outputs(outputs[0], selected), select_outputs(outputs[1], selected), same, units
        )
        replay.order += part.tolist()
        replay.agreement += agreement.tolist()
        replay.near_ties += near
        replay.seconds.append(seconds)
        _keep(replay, outputs)
        del outputs
        shutil.rmtree(folder, ignore_errors=True)
        progress(len(replay.order))
        if decided(np.asarray(replay.agreement)):
            break
    assert same is not None
    return replay, same


def _answer(
    models: tuple[LoadedRunnable, LoadedRunnable],
    samples: Samples,
    folder: Path,
    *,
    baseline_first: bool,
) -> tuple[tuple[Outputs, Outputs], tuple[float, float]]:
    """Return the outputs of both for one part, and the seconds that each took for a request."""
    answers: dict[int, Outputs] = {}
    seconds: dict[int, float] = {}
    for side in (0, 1) if baseline_first else (1, 0):
        answers[side], taken = models[side].evaluate(
            folder / f"outputs-{side}", lambda what, done: None, samples
        )
        seconds[side] = taken / samples.count
    return (answers[0], answers[1]), (seconds[0], seconds[1])


def _keep(replay: Replay, outputs: tuple[Outputs, Outputs]) -> None:
    if not replay.is_kept:
        return
    for kept, answers in zip(replay.kept, outputs, strict=True):
        kept.append({name: np.array(array) for name, array in answers.items()})
    held = sum(a.nbytes for side in replay.kept for part in side for a in part.values())
    if held > MOST_KEPT_BYTES:
        replay.is_kept = False
        for side in replay.kept:
            side.clear()


def joined(parts: list[Outputs]) -> dict[str, NDArray[Any]]:
    """Return the outputs of all parts as one, in the order of drawing."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def replay_text(
    models: tuple[LoadedLanguageRunnable, LoadedLanguageRunnable],
    blocks: int,
    folder: Path,
    *,
    decided: Decided,
    budget_s: float,
    seed: int,
    progress: Callable[[int], None],
) -> Replay:
    """Replay blocks of recorded text; their agreement is the share of tokens predicted alike.

    Args:
        models: baseline and candidate, both loaded for the recorded text.
        blocks: number of blocks.
        folder: for scratch files.
        decided: asked after each block.
        budget_s: time after which no further block begins.
        seed: of the order.
        progress: told the number of blocks replayed.
    """
    replay = Replay(is_kept=False)
    begin = time.monotonic()
    for block in draw_order(blocks, seed).tolist():
        if replay.order and time.monotonic() - begin >= budget_s:
            break
        likeliest: dict[int, NDArray[np.int64]] = {}
        seconds: dict[int, float] = {}
        broken = False
        for side in (0, 1) if len(replay.order) % 2 == 0 else (1, 0):
            started = time.perf_counter()
            answer = models[side].score(block, folder / "unused", "alone")
            seconds[side] = time.perf_counter() - started
            likeliest[side] = np.asarray(answer["likeliest"], dtype=np.int64)
            broken |= side == 1 and bool(answer["nan"])
        share = 0.0 if broken else float(np.mean(likeliest[0] == likeliest[1]))
        replay.order.append(block)
        replay.agreement.append(share)
        replay.seconds.append((seconds[0], seconds[1]))
        progress(len(replay.order))
        if decided(np.asarray(replay.agreement)):
            break
    return replay


def windows(
    times_s: NDArray[np.float64], order: NDArray[np.int64], agreement: NDArray[np.float64]
) -> tuple[TrafficWindow, ...]:
    """Return the agreement over ten equal parts of the recorded time, as far as it was replayed.

    Args:
        times_s: seconds after the first request, shape ``(recorded,)``.
        order: the requests that were replayed.
        agreement: of each of them.
    """
    begin, end = float(times_s[0]), float(times_s[-1])
    if end <= begin:
        return ()
    edges = np.linspace(begin, end, WINDOWS + 1)
    index = np.clip(np.searchsorted(edges, times_s[order], side="right") - 1, 0, WINDOWS - 1)
    return tuple(
        TrafficWindow(
            float(edges[i]),
            float(edges[i + 1]),
            int(np.count_nonzero(index == i)),
            float(agreement[index == i].mean()),
        )
        for i in range(WINDOWS)
        if (index == i).any()
    )
