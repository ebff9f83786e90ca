"""``pytest-edgeai pipeline``: what other tools wrote down, as a manifest."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_edgeai.errors import UserError

if TYPE_CHECKING:
    from pytest_edgeai.pipeline_mapping import Model

Say: TypeAlias = Callable[..., None]
MANIFEST = "edgeai.toml"


def add_pipeline(commands: Any) -> None:
    """Add ``pipeline`` and its command to those of ``pytest-edgeai``.

    Args:
        commands: the subparsers of argparse.
    """
    pipeline = commands.add_parser("pipeline", help="make a manifest of a pipeline file")
    inner = pipeline.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="pytest-edgeai pipeline"
    )
    convert = inner.add_parser(
        "convert", help="make a manifest of an edge_ai_pipeline file, and name what has no place"
    )
    convert.add_argument("file", type=Path, metavar="FILE", help="the pipeline file (YAML)")
    convert.add_argument(
        "--output",
        type=Path,
        default=Path(MANIFEST),
        metavar="PATH",
        help=f"the manifest (default: {MANIFEST})",
    )
    convert.add_argument("--force", action="store_true", help="overwrite the manifest")
    convert.add_argument("--model", type=Path, metavar="PATH", help="the model, unnamed in FILE")
    convert.add_argument("--name", metavar="NAME", help="its name (default: that of its file)")
    convert.add_argument("--task", metavar="TASK", help="its task, a Hugging Face task name")
    convert.add_argument("--data", metavar="DATA", help="its evaluation data")
    convert.add_argument("--calibration", metavar="DATA", help="its calibration data")
    convert.set_defaults(run=_convert)


def _convert(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.files import write_atomically
    from pytest_edgeai.pipeline_file import read_pipeline
    from pytest_edgeai.pipeline_mapping import map_pipeline, notes_of, render_manifest

    output: Path = chosen.output
    if not output.parent.is_dir():
        raise UserError(
            f"there is no directory {output.parent}",
            where=f"--output {output}",
            advice="make it first",
        )
    if output.exists() and chosen.file.exists() and output.samefile(chosen.file):
        raise UserError(
            "is the pipeline file itself", where=f"--output {output}", allowed="another file"
        )
    if os.path.lexists(output) and not chosen.force:
        raise UserError(
            "exists, and nothing is overwritten", where=str(output), allowed="with --force"
        )
    pipeline = read_pipeline(chosen.file)
    model = _model(chosen)
    mapped = map_pipeline(pipeline, str(chosen.file))
    write_atomically(output, render_manifest(mapped, model, chosen.file.name))
    say(f"written: {output}")
    if model is None:
        say("it names no model yet: fill in [models.NAME], or give --model, --task and --data")
    for title, notes in notes_of(mapped).items():
        say(f"{title}:", *(f"  {note}" for note in notes))


def _model(chosen: argparse.Namespace) -> Model | None:
    """Return the model of the options; ``None`` where none of them is given."""
    from pytest_edgeai.errors import unknown_word
    from pytest_edgeai.pipeline_mapping import Model
    from pytest_edgeai.tasks import TASKS

    options = ("model", "task", "data", "calibration", "name")
    given = {name for name in options if getattr(chosen, name) is not None}
    if not given:
        return None
    if missing := [f"--{name}" for name in options[:3] if name not in given]:
        raise UserError(
            f"{', '.join(missing)} is missing", allowed="--model, --task and --data together"
        )
    path: Path = chosen.model
    if not path.exists():
        raise UserError("does not exist", where=f"--model {path}")
    if chosen.task not in TASKS:
        raise unknown_word("task", chosen.task, sorted(TASKS), where="--task")
    name = path.stem if chosen.name is None else chosen.name
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(
            f'"{name}" cannot name a model', where="--name", allowed="letters, digits, _ . and -"
        )
    return Model(
        name=name,
        path=_beside(path, chosen.output),
        task=chosen.task,
        data=_source(chosen.data, "--data", chosen.output),
        calibration=_source(chosen.calibration, "--calibration", chosen.output),
    )


def _source(text: str | None, option: str, output: Path) -> str:
    """Return data as a manifest names it: a file, or ``package.module:callable``."""
    if text is None:
        return ""
    path = Path(text)
    if path.exists():
        return _beside(path, output)
    package, _, function = text.partition(":")
    if function.isidentifier() and all(part.isidentifier() for part in package.split(".")):
        return text
    raise UserError(
        "does not exist", where=f"{option} {text}", allowed='a file, or "package.module:callable"'
    )


def _beside(path: Path, output: Path) -> str:
    """Return a path as the manifest at ``output`` names it: relative, where it can be."""
    try:
        found = os.path.relpath(path.absolute(), output.absolute().parent)
    except ValueError:
        # Two drives of Windows have no path between them.
        found = str(path.absolute())
    return Path(found).as_posix()
