"""``pytest-edgeai registry``: list, show, promote, roll back, and tell what happened."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pytest_edgeai.promote.registry_log import Entry

Say: TypeAlias = Callable[..., None]
BUNDLE_HELP = "its directory, or that of the candidate, for the bundle that was promoted last"
_DIGITS = 12


def add_registry(commands: Any) -> None:
    """Add ``registry`` and its commands to those of ``pytest-edgeai``.

    Args:
        commands: the subparsers of argparse.
    """
    registry = commands.add_parser("registry", help="keep signed bundles, and go back")
    inner = registry.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[..., None], help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(name, help=help)
        parser.add_argument("registry", type=Path, metavar="REGISTRY", help="its directory")
        parser.set_defaults(run=run)
        return parser

    listing = command("list", _list, "what is current of each model and target")
    _add_json(listing)
    show = command("show", _show, "what is current of one model and target, with its gates")
    _add_pair(show)
    _add_json(show)
    show.add_argument("--path", action="store_true", help="print the bundle's directory alone")
    promote = command("promote", _promote, "copy a signed bundle in, and make it the current one")
    promote.add_argument("bundle", type=Path, metavar="BUNDLE", help=BUNDLE_HELP)
    promote.add_argument(
        "--key",
        type=Path,
        metavar="PUBLIC",
        required=True,
        help="the public key that must have signed it (PEM)",
    )
    rollback = command("rollback", _rollback, "make the bundle before the current one current")
    _add_pair(rollback)
    history = command("history", _history, "every promotion and rollback, the oldest first")
    history.add_argument("model", metavar="MODEL", nargs="?", help="only of this model")
    history.add_argument("target", metavar="TARGET", nargs="?", help="only for this target")
    _add_json(history)


def _add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("target", metavar="TARGET", help="the target's name")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _list(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_log import current_and_previous
    from pytest_edgeai.promote.registry_state import RegistryState

    stacks = RegistryState(chosen.registry).read().stacks
    positions = [current_and_previous(stack) for _, stack in sorted(stacks.items())]
    if chosen.json:
        rows = [
            {name: entry and _fields(entry) for name, entry in position.items()}
            for position in positions
        ]
        _say_json(say, rows)
        return
    header = ("MODEL", "TARGET", "CURRENT", "CANDIDATE", "SINCE", "EXPIRES", "PREVIOUS")
    cells = [
        (
            current.model,
            current.target,
            current.bundle[:_DIGITS],
            current.candidate,
            current.time[:19],
            current.expires[:10],
            previous.bundle[:_DIGITS] if previous else "-",
        )
        for position in positions
        if (current := position["current"])
        for previous in [position["previous"]]
    ]
    _say_table(say, header, cells)


def _show(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_log import current_and_previous
    from pytest_edgeai.promote.registry_state import RegistryState
    from pytest_edgeai.promote.verification import read_statement

    registry = RegistryState(chosen.registry)
    position = current_and_previous(registry.read().stack(chosen.model, chosen.target))
    current, previous = position["current"], position["previous"]
    assert current is not None
    path = registry.bundle_path(current.bundle)
    if chosen.path:
        say(str(path))
        return
    predicate = read_statement(path).predicate
    if chosen.json:
        content = {name: entry and _fields(entry) for name, entry in position.items()}
        _say_json(say, {**content, "path": str(path), "certificate": predicate})
        return
    say(f"{current.model} for {current.target}: {current.candidate}")
    say(f"  bundle    {path}")
    say(f"  artifact  {predicate['candidate']['artifact']['sha256']}")
    say(f"  since     {current.time} ({current.action})")
    say(f"  signed    {predicate['created']} with {current.keyid}")
    say(f"  expires   {current.expires}")
    say(f"  previous  {previous.bundle if previous else 'none'}")
    header = ("GATE", "OUTCOME", "OBSERVED", "INTERVAL", "THRESHOLD", "UNIT", "SET BY")
    _say_table(say, header, [_gate(gate) for gate in predicate["gates"]])


def _gate(gate: Any) -> tuple[str, ...]:
    low, high = gate["interval"] or (None, None)
    relation = {"at_least": ">=", "at_most": "<=", "more_than": ">"}.get(gate["relation"], "")
    threshold = gate["threshold"]
    return (
        gate["name"],
        gate["outcome"],
        _number(gate["observed"]),
        "-" if low is None and high is None else f"{_number(low)} to {_number(high)}",
        "-" if threshold is None else f"{relation} {_number(threshold)}",
        gate["unit"],
        gate["threshold_origin"],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _promote(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.keys import read_public_key
    from pytest_edgeai.promote.registry import Registry
    from pytest_edgeai.promote.verification import check_is_directory, current_bundle

    key = read_public_key(chosen.key, where="--key")
    bundle = current_bundle(chosen.bundle)
    check_is_directory(bundle)
    entry = Registry(chosen.registry, create=True).promote(bundle, key, now=_now())
    if entry is None:
        say(f"nothing to do: {bundle} is current already")
    else:
        say(_sentence(entry))


def _rollback(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry import Registry

    entry = Registry(chosen.registry).rollback(chosen.model, chosen.target, now=_now())
    say(_sentence(entry))
    if datetime.datetime.fromisoformat(entry.expires) <= _now():
        say(f"warning: the certificate of this bundle expired at {entry.expires}")


def _sentence(entry: Entry) -> str:
    instead = f" instead of {entry.replaced[:_DIGITS]}" if entry.replaced else ""
    return (
        f"{entry.model} for {entry.target}: {entry.candidate}, bundle {entry.bundle[:_DIGITS]}, "
        f"is current{instead}"
    )


def _history(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.errors import unknown_word
    from pytest_edgeai.promote.registry_state import RegistryState

    entries: Sequence[Entry] = RegistryState(chosen.registry).read().log.entries
    for name in ("model", "target"):
        wanted = getattr(chosen, name)
        if wanted is not None:
            known = sorted({getattr(entry, name) for entry in entries})
            entries = [entry for entry in entries if getattr(entry, name) == wanted]
            if not entries:
                raise unknown_word(name, wanted, known, where=str(chosen.registry))
    if chosen.json:
        _say_json(say, [_fields(entry) for entry in entries])
        return
    header = ("NO", "TIME", "ACTION", "MODEL", "TARGET", "CANDIDATE", "BUNDLE", "INSTEAD OF")
    cells = [
        (
            str(entry.sequence),
            entry.time[:19],
            entry.action,
            entry.model,
            entry.target,
            entry.candidate,
            entry.bundle[:_DIGITS],
            entry.replaced[:_DIGITS] if entry.replaced else "-",
        )
        for entry in entries
    ]
    _say_table(say, header, cells)


def _fields(entry: Entry) -> dict[str, Any]:
    return entry._asdict()


def _say_json(say: Say, content: Any) -> None:
    say(*json.dumps(content, indent=2).split("\n"))


def _say_table(say: Say, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell."""
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    line = "  ".join(f"{{:<{width}}}" for width in widths)
    say(*[line.format(*row).rstrip() for row in cells])
