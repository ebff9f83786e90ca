"""Which promoted candidate a new one is compared with: from the history, or from a report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.history.records import Environment, Row, differences, host_identity
from pytest_edgeai.records import JSON
from pytest_edgeai.report.content import SCHEMA

SPEED_GATE = "speedup"


@dataclass(frozen=True)
class Promoted:
    """A candidate that a session promoted.

    Attributes:
        created: ISO 8601 time in UTC of that session's report.
        session: what tells sessions apart.
        model: name of the model.
        target: the target.
        recipe_id: id of the candidate without its target.
        framework: the framework that runs it.
        sha256: digest of the artifact.
        path: what was loaded when it was measured.
        files: all files of the artifact; empty where that is not known.
        bundle: where it was promoted to; empty likewise.
        speedup: the ratio that was observed; ``None`` where none was.
        environment: where it was measured.
    """

    created: str
    session: str
    model: str
    target: str
    recipe_id: str
    framework: str
    sha256: str
    path: str
    files: tuple[str, ...]
    bundle: str
    speedup: float | None
    environment: Environment


def promoted_in_rows(rows: Iterable[Row], model: str, target: str) -> list[Promoted]:
    """Return what sessions promoted of a model for a target, in order of time.

    Args:
        rows: in order of time.
        model: name of the model.
        target: the target.
    """
    sessions: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.promoted and row.artifact_sha256 and (row.model, row.target) == (model, target):
            sessions.setdefault((row.run_id, row.candidate), []).append(row)
    return [
        Promoted(
            created=members[0].created,
            session=members[0].run_id,
            model=model,
            target=target,
            recipe_id=members[0].recipe_id,
            framework=members[0].framework,
            sha256=members[0].artifact_sha256,
            path=members[0].artifact_path,
            files=(),
            bundle=members[0].bundle,
            speedup=next((row.observed for row in members if row.gate == SPEED_GATE), None),
            environment=members[0].environment,
        )
        for members in sessions.values()
    ]


def promoted_in_report(report: JSON, model: str, target: str) -> list[Promoted]:
    """Return what a JSON report promoted of a model for a target.

    Args:
        report: the parsed report.
        model: name of the model.
        target: the target.

    Raises:
        ValueError: it is no report of this schema, or parts of it are missing.
    """
    if not isinstance(report, Mapping) or report.get("schema") != SCHEMA:
        raise ValueError(f"it is no report of the schema {SCHEMA}")
    try:
        hosts = {host["target"]: host for host in report["hosts"]}
        return [
            _from_report(report, each, candidate, hosts[target])
            for each in report["models"]
            for candidate in each["candidates"]
            if each["name"] == model
            and candidate["target"] == target
            and candidate["promoted"]
            and candidate["artifact"] is not None
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"a part of the report is missing or of another kind: {error}") from None


def _from_report(report: JSON, model: JSON, candidate: JSON, host: JSON) -> Promoted:
    artifact = candidate["artifact"]
    measured = model["baseline"]["measurements"] or {}
    runtime = measured.get("runtime") or {}
    # A report lists what somebody set; this package's default is 1.
    stated = (report.get("settings") or {}).get("threads") or {"value": 1}
    observed = [gate["observed"] for gate in candidate["gates"] if gate["name"] == SPEED_GATE]
    texts = {
        "created": report["created"],
        "model": model["name"],
        "target": candidate["target"],
        "recipe_id": candidate["id"].removesuffix(f"@{candidate['target']}"),
        "framework": candidate["framework"],
        "sha256": artifact["sha256"],
        "path": artifact["path"],
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} is {text!r}")
    if not all(isinstance(value, int | float | None) for value in observed):
        raise TypeError(f"a speed-up is {observed!r}")
    return Promoted(
        **texts,
        files=tuple(map(str, artifact["files"])),
        session=report["evidence"]["sha256"],
        bundle="",
        speedup=observed[0] if observed else None,
        environment=Environment(
            host_identity(host),
            {"pytest-edgeai": report["tool"]["version"], **artifact["versions"]},
            int(runtime.get("threads", stated["value"])),
        ),
    )


def latest(promoted: Sequence[Promoted], recipe_id: str) -> Promoted | None:
    """Return the latest of some; ``None`` of none.

    Of several in one session that of the same recipe counts, otherwise the fastest there.

    Args:
        promoted: in order of time.
        recipe_id: the recipe of the new candidate.
    """
    session = [each for each in promoted if each.session == promoted[-1].session]
    same = [each for each in session if each.recipe_id == recipe_id]
    return max(same or session, key=lambda each: each.speedup or 0.0, default=None)


def fastest(
    promoted: Sequence[Promoted],
    here: Callable[[Promoted], Environment],
    across: Collection[str] = (),
) -> tuple[Promoted | None, tuple[str, ...]]:
    """Return the one with the best speed-up of those whose figures can be ranked here.

    Speed-ups rank only where they were measured on this host with these tools and threads, and
    against a baseline in the same framework; of equal ones the later counts.

    Args:
        promoted: of the history, in order of time.
        here: returns where one of them would be measured in this session.
        across: what may differ: ``host``, ``versions`` or ``threads``.

    Returns:
        The fastest, and what keeps the latest of the others from being ranked where there is none.
    """
    refused: tuple[str, ...] = ()
    best: Promoted | None = None
    for each in promoted:
        refusal = differences(here(each), each.environment, across)
        if refusal or each.speedup is None:
            refused = refusal or ("no speed-up was observed",)
        elif best is None or each.speedup >= (best.speedup or 0.0):
            best = each
    return best, () if best else refused


def unlike(here: Environment, there: Environment) -> tuple[str, ...]:
    """Return what differs between two environments, in the tools that both name."""
    shared = here.versions.keys() & there.versions.keys()
    mine, other = (
        Environment(each.host, {name: each.versions[name] for name in shared}, each.threads)
        for each in (here, there)
    )
    return differences(mine, other)
