"""The planted models as ONNX files with a known amount of work, and their evaluation data.

One file serves every contestant. A call classifies one sample and multiplies a vector by an
orthogonal matrix a known number of times, one node each: 5% more nodes are 5% more work. Each
product is small enough that ONNX Runtime computes it on one thread whatever the session's options
are (MLAS gives a thread at least 64 x 1,024 multiplications, mlas/lib/sgemm.cpp), so that those
who cannot set the number of threads are not at a disadvantage.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest.planted.planted_session import HEALTHY, Faults, open_session
from pytest_edgeai.measure.onnx_writer import write_model
from pytest_edgeai.selfcheck.planted import (
    CLASSES,
    COMMON_CLASS,
    FEATURES,
    RARE_CLASS,
    prototypes,
)

STEPS = 20
"""The work of a model is a multiple of this, so that 5% more is a whole number of nodes."""

CALL_S = 1e-3
WIDTH = 128
SAMPLES = 1000
NOISE = 0.28
"""Standard deviation of a feature around its class's center; about 1 sample in 20 is misread."""

_TRIAL_STEPS = 5 * STEPS
_TRIAL_CALLS = 50
_NEVER = np.float32(-1e6)

Answers: TypeAlias = Literal["right", "constant", "nan", "mode", "dead-class"]
Node: TypeAlias = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True)
class Subject:
    """A planted model.

    Attributes:
        work: its work, in parts of :data:`STEPS` of the baseline's; 0 for the answers alone.
        answers: what it answers.
        faults: what its runtime does beside running it.
        loads: whether it is a model at all.
        name: of its file.
    """

    work: int = STEPS
    answers: Answers = "right"
    faults: Faults = HEALTHY
    loads: bool = True
    name: str = "model"

    def write(self, folder: Path, repetitions: int) -> Path:
        """Write it, and its faults beside it.

        Args:
            folder: which is created.
            repetitions: work of the baseline, a multiple of :data:`STEPS`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.onnx"
        if not self.loads:
            path.write_bytes(b"this is no model")
        else:
            _write(path, repetitions * self.work // STEPS, self.answers)
        if self.faults != HEALTHY:
            self.faults.write(path)
        return path


@dataclass(frozen=True)
class Evaluation:
    """Evaluation data on disk.

    Attributes:
        inputs: ``.npy``, float32, shape ``(samples, FEATURES)``.
        labels: ``.npy``, int64, shape ``(samples,)``.
        archive: both as ``x`` and ``y`` of an ``.npz``.
    """

    inputs: Path
    labels: Path
    archive: Path


def write_evaluation(folder: Path, *, wrong: bool = False) -> Evaluation:
    """Write the evaluation data; the rare class has one sample in 50, the most frequent one in 4.

    Args:
        folder: which is created.
        wrong: whether no label is a class that a model knows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(4)
    shares = np.full(CLASSES, (1 - 0.25 - 0.02) / (CLASSES - 2))
    shares[COMMON_CLASS], shares[RARE_CLASS] = 0.25, 0.02
    labels: NDArray[Any] = generator.choice(CLASSES, SAMPLES, p=shares).astype(np.int64)
    x = prototypes()[labels] + generator.normal(0, NOISE, (SAMPLES, FEATURES))
    if wrong:
        labels = labels + CLASSES
    made = Evaluation(folder / "x.npy", folder / "labels.npy", folder / "data.npz")
    np.save(made.inputs, x.astype(np.float32))
    np.save(made.labels, labels)
    np.savez(made.archive, x=x.astype(np.float32), y=labels)
    return made


def measure_repetitions(folder: Path) -> int:
    """Return the products, a multiple of :data:`STEPS`, that take about :data:`CALL_S` here."""
    session = open_session(Subject().write(folder, _TRIAL_STEPS))
    feeds = {"x": np.zeros((1, FEATURES), np.float32)}
    times = []
    for _ in range(_TRIAL_CALLS):
        begin = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - begin)
    # The fastest call: a busy machine delays the others, and the models would come out too small.
    return STEPS * max(1, round(CALL_S / (min(times) / _TRIAL_STEPS * STEPS)))


def _write(path: Path, products: int, answers: Answers) -> None:
    generator = np.random.default_rng(0)
    orthogonal = np.linalg.qr(generator.standard_normal((WIDTH, WIDTH)))[0]
    weights: dict[str, NDArray[Any]] = {
        "centers": prototypes().T.copy(),
        "spread": generator.standard_normal((FEATURES, WIDTH)).astype(np.float32),
        "turn": orthogonal.astype(np.float32),
        # Too small to change an answer, and not nothing, lest the optimizer drop the work.
        "hardly": np.array(1e-12, np.float32),
    }
    nodes: list[Node] = [("MatMul", ("x", "centers"), "scores"), ("MatMul", ("x", "spread"), "h0")]
    nodes += [("MatMul", (f"h{step}", "turn"), f"h{step + 1}") for step in range(products)]
    nodes += [
        ("ReduceMean", (f"h{products}",), "mean"),
        ("Mul", ("mean", "hardly"), "trace"),
        ("Add", ("scores", "trace"), "right"),
    ]
    extra, constants = _answer(answers)
    write_model(path, [*nodes, *extra], weights | constants, features=FEATURES, classes=CLASSES)


def _answer(answers: Answers) -> tuple[Iterable[Node], dict[str, NDArray[Any]]]:
    """Return the nodes from ``right`` to ``y``, and their constants."""
    row = np.zeros((1, CLASSES), np.float32)
    if answers == "right":
        return [("Identity", ("right",), "y")], {}
    if answers == "nan":
        return [("Mul", ("right", "nan"), "y")], {"nan": np.array(np.nan, np.float32)}
    if answers == "dead-class":
        row[0, RARE_CLASS] = _NEVER
        return [("Add", ("right", "row"), "y")], {"row": row}
    row[0, COMMON_CLASS if answers == "mode" else slice(None)] = 1
    nothing = np.array(0, np.float32)
    nodes = [("Mul", ("right", "nothing"), "none"), ("Add", ("none", "row"), "y")]
    return nodes, {"nothing": nothing, "row": row}
