"""``pytest-edgeai registry``: list, show, promote, roll back, and tell what happened."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_edgeai.errors import UserError, unknown_word

if TYPE_CHECKING:
    import datetime

    from pytest_edgeai.promote.registry_log import Entry

Say: TypeAlias = Callable[..., None]
BUNDLE_HELP = "its directory, or that of the candidate, for the bundle that was promoted last"
REGISTRY_HELP = "its directory, oci:DIR for an OCI image layout, or mlflow:URI"
_DIGITS = 12
_CLOCK_S = 300


def add_registry(commands: Any) -> None:
    """Add ``registry`` and its commands to those of ``pytest-edgeai``.

    Args:
        commands: the subparsers of argparse.
    """
    registry = commands.add_parser("registry", help="keep signed bundles, and go back")
    inner = registry.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="pytest-edgeai registry"
    )

    def command(name: str, run: Callable[..., None], help: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(name, help=help)
        parser.add_argument("registry", metavar="REGISTRY", help=REGISTRY_HELP)
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
    _add_key(promote)
    fetch = command("fetch", _fetch, "copy what is current out of the registry, verified")
    _add_pair(fetch)
    fetch.add_argument("directory", type=Path, metavar="DIR", help="a new or empty directory")
    _add_key(fetch)
    rollback = command("rollback", _rollback, "make the bundle before the current one current")
    _add_pair(rollback)
    history = command("history", _history, "every promotion and rollback, the oldest first")
    history.add_argument("model", metavar="MODEL", nargs="?", help="only of this model")
    history.add_argument("target", metavar="TARGET", nargs="?", help="only for this target")
    _add_json(history)


def _add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("target", metavar="TARGET", help="the target's name")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        type=Path,
        metavar="PUBLIC",
        required=True,
        help="the public key that must have signed it (PEM)",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def warn_of_clock(created: datetime.datetime, now: datetime.datetime) -> None:
    """Say on standard error where a certificate was made in the future, beyond clocks' drift."""
    if (created - now).total_seconds() > _CLOCK_S:
        sys.stderr.write(
            f"pytest-edgeai: warning: the certificate was created at {created.isoformat()}, and it "
            f"is {now.isoformat(timespec='seconds')} here: one of the two clocks is wrong\n"
        )


def _now() -> datetime.datetime:
    import datetime

    return datetime.datetime.now(datetime.UTC)


def _list(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_address import registry_to_read
    from pytest_edgeai.promote.registry_log import current_and_previous

    stacks = registry_to_read(chosen.registry).read().stacks
    standing = [stacks[pair] for pair in sorted(stacks) if stacks[pair]]
    if chosen.json:
        rows = [
            {name: entry and _fields(entry) for name, entry in current_and_previous(stack).items()}
            for stack in standing
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
            stack[-2].bundle[:_DIGITS] if len(stack) > 1 else "-",
        )
        for stack in standing
        for current in [stack[-1]]
    ]
    _say_table(say, header, cells)


def _show(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_address import registry_to_read
    from pytest_edgeai.promote.registry_log import current_and_previous

    registry = registry_to_read(chosen.registry)
    position = current_and_previous(registry.standing(chosen.model, chosen.target))
    current, previous = position["current"], position["previous"]
    assert current is not None
    path = registry.location(current)
    if chosen.path:
        if not Path(path).is_dir():
            raise UserError(
                "this registry has no directory of a bundle",
                where=chosen.registry,
                advice=f"get one with: pytest-edgeai registry fetch {chosen.registry} "
                f"{chosen.model} {chosen.target} DIR --key PUBLIC",
            )
        say(path)
        return
    predicate = registry.statement(current).predicate
    if chosen.json:
        content = {name: entry and _fields(entry) for name, entry in position.items()}
        _say_json(say, {**content, "path": path, "certificate": predicate})
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
    from pytest_edgeai.promote.registry_address import promote_into
    from pytest_edgeai.promote.verification import check_is_directory, current_bundle

    key = read_public_key(chosen.key, where="--key")
    bundle = current_bundle(chosen.bundle)
    check_is_directory(bundle)
    entry = promote_into(chosen.registry, bundle, key, now=_now())
    if entry is None:
        say(f"nothing to do: {bundle} is current already")
    else:
        say(_sentence(entry))


def _rollback(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_address import registry_to_change

    now = _now()
    entry = registry_to_change(chosen.registry).rollback(chosen.model, chosen.target, now=now)
    say(_sentence(entry))
    if type(now).fromisoformat(entry.expires) <= now:
        say(_expired(entry))


def _fetch(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.keys import read_public_key
    from pytest_edgeai.promote.registry_address import fetch, registry_to_read

    key = read_public_key(chosen.key, where="--key")
    registry = registry_to_read(chosen.registry)
    entry = registry.standing(chosen.model, chosen.target)[-1]
    is_valid = fetch(registry, entry, chosen.directory, key)
    say(
        f"{entry.model} for {entry.target}: {entry.candidate}, bundle {entry.bundle[:_DIGITS]}, "
        f"is in {chosen.directory}"
    )
    if not is_valid:
        say(_expired(entry))


def _expired(entry: Entry) -> str:
    return f"warning: the certificate of this bundle expired at {entry.expires}"


def _sentence(entry: Entry) -> str:
    instead = f" instead of {entry.replaced[:_DIGITS]}" if entry.replaced else ""
    return (
        f"{entry.model} for {entry.target}: {entry.candidate}, bundle {entry.bundle[:_DIGITS]}, "
        f"is current{instead}"
    )


def _history(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.registry_address import registry_to_read

    entries: Sequence[Entry] = registry_to_read(chosen.registry).read().log.entries
    for name in ("model", "target"):
        wanted = getattr(chosen, name)
        if wanted is not None:
            known = sorted({getattr(entry, name) for entry in entries})
            entries = [entry for entry in entries if getattr(entry, name) == wanted]
            if not entries:
                raise unknown_word(name, wanted, known, where=chosen.registry)
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
    # Ten thousand lines are formatted twice as fast in this way as with str.format.
    line = "  ".join(f"%-{width}s" for width in widths)
    say(*[(line % tuple(row)).rstrip() for row in cells])
