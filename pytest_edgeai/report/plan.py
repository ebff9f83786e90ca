"""The assessment and the plan, for people, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import HostFacts, ModelFacts, TensorSpec, Threshold
from pytest_edgeai.report.content import HostReport
from pytest_edgeai.report.effort import (
    HEADINGS,
    UNKNOWN,
    ModelEffort,
    effort_remarks,
    effort_rows,
    row_text,
)
from pytest_edgeai.report.quantities import format_quantity, format_threshold
from pytest_edgeai.report.terminal import MIN_WIDTH, Line, Style
from pytest_edgeai.report.text import display_width, one_line, pad, wrap
from pytest_edgeai.report.wording import host_sentence

_LABEL = 14
_MOST_NAMES = 8


@dataclass(frozen=True)
class PlannedGate:
    """One gate of a candidate.

    Attributes:
        name: its name.
        threshold: its limit.
        unit: unit of the limit.
        is_on: whether it is switched on.
    """

    name: str
    threshold: Threshold
    unit: str
    is_on: bool


@dataclass(frozen=True)
class PlannedModel:
    """What is known and planned of one model.

    Attributes:
        name: its name.
        task: Hugging Face task name.
        facts: what its file says.
        path: the decisions, one sentence each.
        candidates: each with its gates.
        compatibility: framework to what speaks against each of its schemes.
        effort: what its gates take in data and time; ``None`` where that is not known.
    """

    name: str
    task: str
    facts: ModelFacts
    path: Sequence[str]
    candidates: Sequence[tuple[PlannedCandidate, Sequence[PlannedGate]]]
    compatibility: Mapping[str, Mapping[str, str]]
    effort: ModelEffort | None = None


@dataclass(frozen=True)
class PlanContent:
    """Everything that the plan says.

    Attributes:
        host: this machine.
        targets: title and remarks of each target.
        models: the models.
        problems: model name to why it cannot be gated.
        warnings: what a reader of speed figures should know, and what is left out.
    """

    host: HostFacts
    targets: Sequence[tuple[str, Sequence[str]]]
    models: Sequence[PlannedModel]
    problems: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def render_plan(content: PlanContent, width: int, *, ascii_only: bool = False) -> list[Line]:
    """Return the plan for a terminal of ``width`` columns.

    Args:
        content: what to say.
        width: columns that no line exceeds; fewer than ``MIN_WIDTH`` count as ``MIN_WIDTH``.
        ascii_only: write only ASCII, for a stream that cannot encode ``×`` or ``≥``.
    """
    page = _Page(max(width, MIN_WIDTH), ascii_only)
    host = host_sentence(HostReport(content.host, "", proxy=False))
    lines = [*page.prose(f"host: {host}", "title")]
    for label, text in host_fields(content.host):
        lines += page.labelled(label, text)
    for title, remarks in content.targets:
        lines += page.prose(f"target {title}", "title")
        for remark in remarks:
            lines += page.prose(remark, indent=2)
    for warning in content.warnings:
        lines += page.prose(warning, "warn")
    for name, problem in content.problems.items():
        lines += [Line(""), *page.prose(f"{name}: {problem}", "fail")]
    for model in content.models:
        lines += [Line(""), *_model(page, model, ascii_only)]
    return lines


def host_fields(host: HostFacts) -> Iterator[tuple[str, str]]:
    """Yield label and text of each group of facts of a host; what is unknown says so."""
    source = host.sources.get

    def told(text: str, *names: str) -> str:
        found = dict.fromkeys(name for name in map(source, names) if name)
        return f"{text} ({', '.join(found)})" if text and found else text or "unknown"

    yield "vendor", told(host.cpu_vendor, "cpu_vendor")
    yield "INT8 features", told(", ".join(host.simd) or "none known", "simd")
    memory = format_quantity(host.memory_bytes, "bytes") if host.memory_bytes else ""
    yield "memory", told(memory, "memory_bytes")
    limits = []
    if host.cpu_limit is not None:
        limits.append(f"{host.cpu_limit:g} CPUs")
    if host.memory_limit_bytes is not None:
        limits.append(format_quantity(host.memory_limit_bytes, "bytes"))
    if limits:
        yield "container", told(", ".join(limits), "cpu_limit", "memory_limit_bytes")
    found = [
        f"{each.name} ({each.kind}{_memory_of(each.memory_bytes)}; {each.source})"
        for each in host.accelerators
    ]
    yield "accelerators", ", ".join(found) or "none found"
    power = host.power_source
    if host.battery_percent is not None:
        power = f"{power or 'battery'}, {host.battery_percent}% charged"
    yield "power", told(power, "power_source")


def model_fields(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    """Yield label and text of each group of facts of a model."""
    if facts.opset:
        yield "opset", str(facts.opset)
    yield "weights", _weights(facts)
    if facts.operators:
        ranked = sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))
        yield "operators", _few([f"{name} {count}" for name, count in ranked])
    if facts.inputs:
        yield "inputs", ", ".join(_tensor(spec) for spec in facts.inputs)
    if facts.dynamic_inputs:
        yield "dynamic", f"{', '.join(facts.dynamic_inputs)}: an axis is not fixed"
    if facts.language is not None:
        language = facts.language
        known = (
            (language.family, "family {}"),
            (language.layers, "{} layers"),
            (language.hidden_size, "hidden size {}"),
            (language.heads, "{} heads"),
            (language.kv_heads, "{} KV heads"),
            (language.experts, "{} experts"),
            (language.vocabulary, "{} tokens"),
            (language.context_length, "context {}"),
        )
        yield "language model", ", ".join(text.format(value) for value, text in known if value)
        yield "tokenizer", language.tokenizer or "none: it takes token ids only"
    yield "work", _work(facts)
    for note in facts.notes:
        yield "note", note


@dataclass(frozen=True)
class _Page:
    """How wide and in which characters to write."""

    width: int
    ascii_only: bool

    def prose(
        self, text: str, style: Style = "plain", *, indent: int = 0, hanging: int = 2
    ) -> Iterator[Line]:
        clean = one_line(text, ascii_only=self.ascii_only)
        for line in wrap(clean, self.width - indent, hanging=hanging):
            yield Line(" " * indent + line, style)

    def labelled(
        self, label: str, text: str, style: Style = "plain", *, indent: int = 2, room: int = _LABEL
    ) -> Iterator[Line]:
        """Yield text with a label to its left; a label that is too long gets a line of its own."""
        clean = one_line(label, ascii_only=self.ascii_only)
        first = " " * indent + pad(clean, room + 1)
        start = indent + room + 1
        if display_width(clean) > room or self.width - start < MIN_WIDTH // 2:
            yield from self.prose(label, style, indent=indent)
            first, start = " " * (indent + 2), indent + 2
        for line in wrap(one_line(text, ascii_only=self.ascii_only), self.width - start):
            yield Line((first + line).rstrip(), style)
            first = " " * start


def _model(page: _Page, model: PlannedModel, ascii_only: bool) -> Iterator[Line]:
    facts = model.facts
    size = format_quantity(facts.size_bytes, "bytes")
    yield from page.prose(
        f"{model.name}: {facts.format}, {facts.architecture} for {model.task}, "
        f"{facts.parameters:,} parameters, {size}",
        "title",
    )
    for label, text in model_fields(facts):
        yield from page.labelled(label, text)
    if model.compatibility:
        yield Line("  quantization by framework")
        room = max(display_width(name) for name in model.compatibility)
        for name, schemes in model.compatibility.items():
            for index, text in enumerate(_schemes(schemes)):
                label = "" if index else name
                yield from page.labelled(label, text, indent=4, room=room)
    yield Line("  decisions")
    for number, step in enumerate(model.path, 1):
        yield from page.labelled(f"{number}.", step, indent=4, room=len(str(len(model.path))) + 1)
    for candidate, _ in model.candidates:
        yield from _candidate(page, candidate)
    for nodes, gates in _grouped(model.candidates):
        yield from page.prose(f"gates of {nodes}", indent=2)
        yield from _gates(page, gates, ascii_only)
    if model.effort is not None:
        yield from _effort(page, model.effort)


def _effort(page: _Page, effort: ModelEffort) -> Iterator[Line]:
    yield from page.prose("data and time", indent=2)
    rows = [HEADINGS, *effort_rows(effort)]
    rooms = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = "  ".join(pad(cell, room) for cell, room in zip(row, rooms, strict=True))
        text = f"    {cells}".rstrip()
        if display_width(text) <= page.width:
            yield Line(text, "plain" if row[-1] in ("-", HEADINGS[-1], UNKNOWN) else "warn")
        elif row is not HEADINGS:
            yield from page.labelled(row[0], row_text(row), indent=4, room=rooms[0])
    for remark in effort_remarks(effort):
        yield from page.prose(remark, indent=4)


def _candidate(page: _Page, candidate: PlannedCandidate) -> Iterator[Line]:
    recipe = candidate.recipe
    options = "".join(f" {key}={value}" for key, value in recipe.options.items())
    made = ", converted at full precision" if candidate.baseline_recipe else ""
    yield from page.prose(
        f"candidate {candidate.node}{options} against {candidate.baseline_framework}{made}",
        "title",
        indent=2,
    )
    if candidate.unavailable:
        yield from page.prose(f"not available: {candidate.unavailable}", "warn", indent=4)
    if candidate.proxy_reason:
        yield from page.prose(f"speed reads proxy here: {candidate.proxy_reason}", "warn", indent=4)


def _gates(page: _Page, gates: Sequence[PlannedGate], ascii_only: bool) -> Iterator[Line]:
    rows = [(gate.name, _limit(gate, ascii_only), gate.threshold.origin) for gate in gates]
    names = max((display_width(name) for name, _, _ in rows), default=0)
    limits = max((display_width(limit) for _, limit, _ in rows), default=0)
    for name, limit, origin in rows:
        text = f"    {pad(name, names)}  {pad(limit, limits)}  ({origin})"
        yield Line(text if display_width(text) <= page.width else f"    {name} {limit} ({origin})")


def _limit(gate: PlannedGate, ascii_only: bool) -> str:
    if not gate.is_on:
        return "off"
    threshold = gate.threshold
    if threshold.value is None:
        return "no limit"
    return format_threshold(
        threshold.value, threshold.relation, gate.unit, gate=gate.name, ascii_only=ascii_only
    )


def _grouped(
    candidates: Iterable[tuple[PlannedCandidate, Sequence[PlannedGate]]],
) -> list[tuple[str, Sequence[PlannedGate]]]:
    """Return the gates with the candidates that share them."""
    groups: dict[tuple[PlannedGate, ...], list[str]] = {}
    for candidate, gates in candidates:
        groups.setdefault(tuple(gates), []).append(candidate.node)
    return [(", ".join(nodes), gates) for gates, nodes in groups.items()]


def _schemes(reasons: Mapping[str, str]) -> list[str]:
    """Return one text per reason, with the schemes that share it."""
    by_reason: dict[str, list[str]] = {}
    for scheme, reason in reasons.items():
        by_reason.setdefault(reason, []).append(scheme)
    if len(by_reason) == 1 and (reason := next(iter(by_reason))):
        return [reason]
    return [f"{', '.join(names)}: {reason or 'fits'}" for reason, names in by_reason.items()]


def _weights(facts: ModelFacts) -> str:
    total = sum(facts.weight_elements.values())
    ranked = sorted(facts.weight_elements.items(), key=lambda item: -item[1])
    shares = [f"{count / total:.1%} {name}" for name, count in ranked if count]
    stored = f", quantized as {facts.quantization}" if facts.quantization else ""
    return (", ".join(shares) or "none") + stored


def _work(facts: ModelFacts) -> str:
    known = []
    if facts.flops_per_inference is not None:
        known.append(f"{_si(facts.flops_per_inference)}FLOP")
    if facts.bytes_per_inference is not None:
        known.append(f"{_si(facts.bytes_per_inference)}B moved")
    intensity = facts.arithmetic_intensity
    if intensity is not None:
        known.append(f"{intensity:.3g} FLOP/B")
    note = facts.workload_note
    return "; ".join(part for part in (", ".join(known), note) if part) or "unknown"


def _si(value: float) -> str:
    """Return a number with an SI prefix: ``1.23 G``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:g} "


def _tensor(spec: TensorSpec) -> str:
    if not spec.has_shape:
        return f"{spec.name} {spec.dtype}"
    axes = ", ".join("?" if axis is None else str(axis) for axis in spec.shape)
    return f"{spec.name} {spec.dtype} [{axes}]"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {more} more kinds" if more > 0 else shown


def _memory_of(memory_bytes: int | None) -> str:
    return f", {format_quantity(memory_bytes, 'bytes')}" if memory_bytes else ""
