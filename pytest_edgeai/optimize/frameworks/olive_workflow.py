"""One workflow of Microsoft Olive: its configuration, its calibration data, and what it said.

Source: https://microsoft.github.io/Olive/reference/options.html; behavior checked with 0.13.0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import Calibration, Feeds, OptimizeRequest
from pytest_edgeai.optimize.frameworks.support import Report, one_line

JSONTable = dict[str, Any]
FEEDS = "pytest_edgeai_feeds"
CALIBRATION = "calibration"

# Olive sends a heartbeat before it looks at its own switch, unless a variable of a CI system is set
# (olive/telemetry/telemetry.py of 0.13.0). Nothing here needs the network.
_QUIET = {
    "CI": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
_INFORMATION = 1  # Olive's severities: 0 debug, 1 information, 2 warning, 3 error
_KEPT_LINES = ("Running pass", "Step ")
_MOST_WORDS = 20
_SAYS_NOTHING = ("No output model", "Flow ", "There is no ", "Please install ")


@dataclass(frozen=True)
class Outcome:
    """What a workflow gave.

    Attributes:
        path: the ``.onnx`` file that Olive names as its best; ``None`` where it made none.
        words: what Olive warned of and how its passes failed, in order.
        best: identifier of the best model among ``nodes``.
        nodes: identifier to Olive's record of each model it made, in order.
    """

    path: Path | None
    words: tuple[str, ...]
    best: str = ""
    nodes: Mapping[str, Any] = field(default_factory=dict)


def import_olive() -> Any:
    """Import Olive so that it keeps to itself: no telemetry, no download, no file in the home.

    What it caches lies in this process's folder for temporary files, which ends with the worker.

    Raises:
        ModelError: a package is missing that Olive imports; 0.13.0 does not ask for all of them.
    """
    os.environ.update(_QUIET)
    for name in ("HF_HOME", "OLIVE_TELEMETRY_CACHE_DIR"):
        os.environ[name] = str(Path(tempfile.gettempdir(), "olive-home"))
    try:
        import olive
    except ImportError as error:
        raise ModelError(
            f"olive cannot be imported: {one_line(error)}",
            where=sys.executable,
            advice=f"Run: pip install olive-ai {(error.name or '').partition('.')[0]}".rstrip(),
        ) from error
    return olive


def run_workflow(
    input_model: JSONTable,
    passes: Mapping[str, JSONTable],
    folder: Path,
    report: Report,
    *,
    calibration: Calibration | None = None,
    search: JSONTable | None = None,
) -> Outcome:
    """Run passes one after the other on a model, or search over their settings.

    Args:
        input_model: Olive's description of the model.
        passes: pass name to Olive's description of the pass.
        folder: an empty folder for everything that Olive writes.
        report: receives which passes ran.
        calibration: feeds that passes find as the data configuration :data:`CALIBRATION`.
        search: ``search_strategy``, ``evaluators`` and ``evaluator`` of a search.

    Raises:
        MemoryError: Olive ran out of memory.
        ModelError: Olive cannot be imported.
    """
    olive = import_olive()
    folder = folder.resolve()
    system = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    config: JSONTable = {
        "input_model": input_model,
        "systems": {"local": {"type": "LocalSystem", "accelerators": [system]}},
        "host": "local",
        "target": "local",
        "passes": dict(passes),
        "cache_dir": str(folder / "cache"),
        "output_dir": str(folder / "out"),
        "evaluate_input_model": False,
        "log_severity_level": _INFORMATION,
        **(search or {}),
    }
    if calibration is not None:
        _register(calibration)
        parts = {"load_dataset_config": {"type": FEEDS}, "dataloader_config": {"type": FEEDS}}
        config["data_configs"] = [{"name": CALIBRATION, **parts}]
    # Olive writes into the current directory too.
    with _Words(report) as words, contextlib.chdir(folder):
        try:
            found = olive.run(config)
        except (MemoryError, ModelError):
            raise
        except Exception as error:  # Olive raises whatever its passes and its configuration raise
            words.add(_root_cause(error))
            return Outcome(None, tuple(words.lines))
    best = found.get_best_candidate()
    if best is None and any("MemoryError: " in word for word in words.lines):
        raise MemoryError(words.lines[-1])
    if best is None or not best.model_path:
        return Outcome(None, tuple(words.lines), nodes=dict(found.footprint.nodes))
    path = Path(best.model_path)
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.onnx"))), path)
    return Outcome(
        path if path.is_file() else None,
        tuple(words.lines),
        best.model_id,
        dict(found.footprint.nodes),
    )


def no_artifact(request: OptimizeRequest, outcome: Outcome) -> ModelError:
    """Return the error for a workflow that ended without a model, with Olive's last word."""
    telling = [word for word in outcome.words if not word.startswith(_SAYS_NOTHING)]
    said = telling[-1] if telling else "it gave no reason"
    return ModelError(
        f"olive made no {request.recipe.scheme} of this model: {said}", where=str(request.source)
    )


def check_finite(feeds: Iterable[Feeds]) -> None:
    """Refuse calibration data that gives ranges without an end.

    Raises:
        ModelError: a feed holds NaN or infinity; Olive would make a model that computes NaN.
    """
    for number, feed in enumerate(feeds, 1):
        for name, array in feed.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ModelError(
                    f'the calibration data holds NaN or infinity for input "{name}", call {number}',
                    advice="Remove such samples",
                )


def collect(made: Path, output: Path) -> Path:
    """Move an ONNX model with its external data into ``output``; returns its new place."""
    for file in read_structure(made).files:
        shutil.move(file, output / file.name)
    return output / made.name


class _Loader:
    """Yields a feed and no label, as Olive's passes read them."""

    def __init__(self, feeds: Calibration) -> None:
        self._feeds = feeds

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> Iterator[tuple[Feeds, None]]:
        return ((feeds, None) for feeds in self._feeds)


def _register(calibration: Calibration) -> None:
    """Make ``calibration`` the data set :data:`FEEDS`, batched as it is."""
    from olive.data.registry import Registry

    def load(**_: object) -> Calibration:
        return calibration

    def loader(dataset: Calibration, **_: object) -> _Loader:
        return _Loader(dataset)

    Registry.register_dataset(FEEDS)(load)
    Registry.register_dataloader(FEEDS)(loader)


class _Words(logging.Handler):
    """Collects what Olive warns of, each failure by its first cause, and which passes ran."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.INFO)
        self._report = report
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Keep a line, once, and forget the first of many."""
        if line and line not in self.lines:
            self.lines.append(line)
            del self.lines[:-_MOST_WORDS]

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if record.levelno < logging.WARNING:
            if message.startswith(_KEPT_LINES):
                self._report.add(f"olive: {message}")
            return
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message.rstrip('.')}: {_root_cause(record.exc_info[1])}"
        self.add(message[:400])
        self._report.add(f"olive: {record.levelname.lower()}: {message[:400]}")

    def __enter__(self) -> _Words:
        logging.getLogger("olive").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("olive").removeHandler(self)


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {one_line(error)}"
