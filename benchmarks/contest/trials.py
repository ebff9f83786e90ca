"""Trials: one contestant, one case, once; recorded in one JSON file that later runs add to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = "pytest-edgeai/contest/1"


@dataclass(frozen=True)
class Cell:
    """Drawn pairs of predictions with one loss and one number of samples, judged by one rule.

    Attributes:
        threshold: share of the accuracy that must be kept.
        loss: share that is lost.
        samples: evaluation samples of a draw.
        outcomes: outcome to count.
        seconds: that the rule took for all draws.
    """

    threshold: float
    loss: float
    samples: int
    outcomes: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        contestant: who.
        case: which.
        variant: which of its answers; empty for the only one.
        outcome: ``pass``, ``fail``, ``inconclusive``, ``error``, ``crash`` or ``timeout``;
            ``drawn`` where ``cells`` hold the outcomes.
        seconds: from the start of the first process to the verdict.
        reason: what it said.
        when: UTC, ISO 8601.
        load: load average of the minute before it.
        cells: drawn pairs, for the case of draws.
    """

    contestant: str
    case: str
    variant: str
    outcome: str
    seconds: float
    reason: str = ""
    when: str = ""
    load: float | None = None
    cells: tuple[Cell, ...] = ()


@dataclass
class Record:
    """All trials, with the circumstances under which they were run.

    Attributes:
        host: the machine, in words; trials of another machine are not added.
        repetitions: matrix products of a baseline's call.
        versions: distribution to version.
        absent: contestant to why it could not be installed.
        trials: in the order of running.
    """

    host: str
    repetitions: int
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    def counted(self) -> dict[tuple[str, str], int]:
        """Return (contestant, case) to the number of trials; variants answer in one trial."""
        counts: dict[tuple[str, str], int] = {}
        first: dict[tuple[str, str], str] = {}
        for trial in self.trials:
            key = (trial.contestant, trial.case)
            if trial.variant == first.setdefault(key, trial.variant):
                counts[key] = counts.get(key, 0) + 1
        return counts

    def of(self, contestant: str, case: str, variant: str) -> list[Trial]:
        """Return the trials of one cell of the table."""
        wanted = (contestant, case, variant)
        return [t for t in self.trials if (t.contestant, t.case, t.variant) == wanted]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1), "utf-8")
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read one.

        Raises:
            ValueError: the file is of another schema.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path} is no record of a contest ({SCHEMA})")
        trials = [_trial(fields) for fields in content.pop("trials")]
        return cls(**content, trials=trials)


def _trial(fields: dict[str, Any]) -> Trial:
    cells: Iterable[dict[str, Any]] = fields.pop("cells")
    return Trial(**fields, cells=tuple(Cell(**cell) for cell in cells))
