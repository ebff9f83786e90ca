"""Which gates a candidate meets, and which of them its promotion needs."""

from __future__ import annotations

from pytest_edgeai.configuration import Settings
from pytest_edgeai.descriptors import GateDescriptor
from pytest_edgeai.specification import Manifest, ModelSpec

RELEASE = "release"


def production_is_on(settings: Settings, manifest: Manifest) -> bool:
    """Return whether gates of production run at all: by the manifest's table or by a profile."""
    return manifest.production is not None or settings.origins["profile"] != "default"


def not_asked(
    gate: GateDescriptor, model: ModelSpec, settings: Settings, manifest: Manifest
) -> str:
    """Return why a gate does not exist for a model; an empty string where it does.

    What ``required`` names exists whatever the model is, because leaving it out would read like a
    pass: without the data that it needs it is not certified, and where it judges other tasks its
    verdict says so.
    """
    if gate.only_against and settings.against is None:
        return "compares with a promoted candidate, which --edge-against names"
    if is_named(gate, manifest):
        return ""
    if not gate.judges(model.task):
        return other_task(gate, model)
    if not gate.production:
        return ""
    if not production_is_on(settings, manifest):
        return "a gate of production: switch it on with [production] or --edge-profile"
    table = manifest.production
    named = table.required if table is not None else None
    if named is not None and settings.profile != RELEASE:
        return f'not among "required" of {table.where if table else ""}'
    if gate.needs_key and not getattr(model, gate.needs_key):
        return f'needs "{gate.needs_key}" in {model.where}'
    return ""


def other_task(gate: GateDescriptor, model: ModelSpec) -> str:
    """Return why a gate says nothing of a model's task; an empty string where it judges it."""
    if gate.judges(model.task):
        return ""
    return f"judges {', '.join(gate.tasks)}, and this is {model.task}"


def is_named(gate: GateDescriptor, manifest: Manifest) -> bool:
    """Return whether ``required`` of ``[production]`` names a gate."""
    named = manifest.production.required if manifest.production is not None else None
    return gate.production and named is not None and gate.name in named


def is_required(gate: GateDescriptor, manifest: Manifest) -> bool:
    """Return whether a promotion needs a gate that a candidate meets."""
    if not gate.production or manifest.production is None:
        return True
    named = manifest.production.required
    return named is None or gate.name in named
