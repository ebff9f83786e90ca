"""What frameworks share inside a worker: reading recipe options, and keeping what tools report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import Calibration, Feeds, OptimizeRequest, Progress
from pytest_edgeai.records import Architecture, Recipe

DEFAULT_CALIBRATION_CALLS = 300
"""How many calibration feeds are used unless the recipe says otherwise; NNCF's own default."""
TRANSFORMERS: tuple[Architecture, ...] = ("transformer", "mixture-of-experts")
"""Architectures that are quantized with the options for transformers."""
PRUNE_RATIOS = (0.05, 0.5)
"""The least and the largest share of the output channels that ``prune_ratio`` removes."""


class Options:
    """Reads a recipe's options, each by its type, and refuses those that nobody read."""

    def __init__(self, recipe: Recipe) -> None:
        """Start reading ``recipe.options``."""
        self._recipe = recipe
        self._values = dict(recipe.options)
        self._known: list[str] = []

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean option."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return a number between ``least`` and ``most``."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, value, f"a number from {least:g} to {most:g}")
        if not least <= value <= most:
            raise self._wrong(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def optional_number(self, name: str, least: float, most: float) -> float | None:
        """Return a number between ``least`` and ``most``; ``None`` where it is not given."""
        if name not in self._values:
            self._known.append(name)
            return None
        return self.number(name, least, least, most)

    def count(self, name: str, default: int) -> int:
        """Return a positive integer."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(name, value, "a whole number from 1 on")
        return value

    def size(self, name: str, default: int, allowed: Sequence[int]) -> int:
        """Return one of some whole numbers."""
        value = self._take(name, default)
        if isinstance(value, bool) or value not in allowed:
            raise self._wrong(name, value, ", ".join(str(each) for each in allowed))
        return int(value)

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """Return one of ``allowed``."""
        value = self._take(name, default)
        if value not in allowed:
            hint = did_you_mean(str(value), allowed)
            raise self._wrong(name, value, ", ".join(allowed), hint)
        return str(value)

    def names(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """Return a list of strings."""
        value = self._take(name, list(default))
        if not isinstance(value, (list, tuple)) or not all(isinstance(x, str) for x in value):
            raise self._wrong(name, value, "a list of strings")
        return list(value)

    def finish(self) -> None:
        """Refuse options that were given and never read.

        Raises:
            ModelError: an option is unknown; suggests the closest known one.
        """
        for name in self._values:
            if name not in self._known:
                raise ModelError(
                    f'unknown option "{name}"',
                    where=f"recipe {self._recipe.id}",
                    allowed=", ".join(sorted(self._known)) or "no options",
                    advice=did_you_mean(name, self._known),
                )

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._values.get(name, default)

    def _wrong(self, name: str, value: object, allowed: str, hint: str = "") -> ModelError:
        return ModelError(
            f'option "{name}" is {value!r}',
            where=f"recipe {self._recipe.id}",
            allowed=allowed,
            advice=hint,
        )


def prune_ratio(options: Options) -> float | None:
    """Read the option ``prune_ratio``; ``None`` where it is not given."""
    return options.optional_number("prune_ratio", *PRUNE_RATIOS)


@dataclass(frozen=True)
class LimitedCalibration:
    """The first feeds of a calibration set, telling how far they have been read.

    Attributes:
        source: all feeds.
        limit: how many of them are used.
        on_feed: called with the number of feeds handed out so far in the present pass.
    """

    source: Calibration
    limit: int
    on_feed: Callable[[int], None]

    def __len__(self) -> int:
        """Return the number of feeds."""
        return min(self.limit, len(self.source))

    def __iter__(self) -> Iterator[Feeds]:
        """Yield the feeds; may be iterated again."""
        for index, feeds in enumerate(self.source):
            if index >= self.limit:
                return
            self.on_feed(index + 1)
            yield feeds


def calibration_of(
    request: OptimizeRequest, limit: int, progress: Progress, begin: float, end: float
) -> LimitedCalibration:
    """Return the first ``limit`` calibration feeds, reporting progress from ``begin`` to ``end``.

    Raises:
        ModelError: the recipe needs calibration data and there is none.
    """
    if request.calibration is None or len(request.calibration) == 0:
        raise ModelError(
            f'"{request.recipe.scheme}" needs calibration data and there is none',
            where=f"recipe {request.recipe.id}",
            advice='Name some with the model\'s "calibration" key',
        )
    used = min(limit, len(request.calibration))

    def on_feed(done: int) -> None:
        fraction = begin + (end - begin) * done / used
        progress(f"calibrating, {done} of {used}", min(end, fraction))

    return LimitedCalibration(request.calibration, used, on_feed)


@dataclass
class Report:
    """Collects what happened, one line each: ours, and what Python loggers said meanwhile.

    Attributes:
        loggers: names of the loggers to listen to; an empty name is the root logger.
        lines: what was collected.
    """

    loggers: Sequence[str] = ("",)
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add a line, once."""
        line = " ".join(line.split())
        if line and line not in self.lines:
            self.lines.append(line)

    def __enter__(self) -> Self:
        """Start listening."""
        self._handler = _LineHandler(self.add)
        for name in self.loggers:
            logging.getLogger(name).addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        for name in self.loggers:
            logging.getLogger(name).removeHandler(self._handler)


class _LineHandler(logging.Handler):
    def __init__(self, add: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._add = add

    def emit(self, record: logging.LogRecord) -> None:
        # Tables and tracebacks are in the worker's output; here one line each.
        lines = record.getMessage().splitlines()
        self._add(f"{record.levelname.lower()}: {lines[0] if lines else ''}")


def one_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def listed(operators: Mapping[str, int]) -> str:
    """Return operator counts for a message: ``Conv (3), Relu (2)``."""
    ordered = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({count})" for name, count in ordered[:8])
