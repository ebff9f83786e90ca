"""What the files of model formats declare that can run, escape or explode; no weight is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, iterparse

from pytest_edgeai.assess.gguf_container import read_container
from pytest_edgeai.assess.openvino_ir import read_openvino
from pytest_edgeai.assess.safetensors_file import read_safetensors
from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.scan_archives import Remark, escapes, leads_elsewhere
from pytest_edgeai.measure.scan_templates import template_faults

LONGEST_TEMPLATE = 1 << 20
_TEMPLATE_KEY = "tokenizer.chat_template"
_LONGEST_JSON = 1 << 28
_BLOCK_BYTES = 1 << 20
_DOCUMENT_TYPES = (b"<!DOCTYPE", b"<!ENTITY")
_CODE_KEY = "model_file"
"""Key of a config.json that names Python beside the weights, which mlx-lm can run to load them.
``auto_map`` is no such key here: it names code of a hub that no adapter asks for."""


def is_allowed(operator: str, domain: str, allowed: Iterable[str]) -> bool:
    """Return whether an operator stands on an allow-list.

    Entries read ``Conv`` (the default set), ``com.microsoft:FusedConv`` or ``com.microsoft:*``.
    """
    names = {operator} if not domain else {f"{domain}:{operator}", f"{domain}:*"}
    return not names.isdisjoint(allowed)


def scan_gguf(path: Path, name: str) -> Iterator[Remark]:
    """Yield what is wrong with a GGUF file: its templates, and bytes after its tensors."""
    try:
        found = read_container(path, longest_text=LONGEST_TEMPLATE)
    except ModelError as error:
        yield unread(name, error)
        return
    for key, value in found.metadata.items():
        if key.startswith(_TEMPLATE_KEY) and isinstance(value, str):
            yield from _template(f"{name} {key}", value)
    rest = found.size_bytes - found.data_end_bytes
    if rest > found.alignment:
        yield Remark("trailing", name, f"{rest} bytes follow its last tensor")


def scan_openvino(path: Path, name: str, allowed: Iterable[str] | None) -> Iterator[Remark]:
    """Yield what is wrong with an OpenVINO ``.xml``: its operators, and declarations of XML.

    Operators of the numbered opsets come with the runtime; any other has to be on the allow-list.
    """
    with path.open("rb") as file:
        if any(word in file.read(_BLOCK_BYTES) for word in _DOCUMENT_TYPES):
            yield Remark("xml", name, "it declares a document type, as XML bombs do")
            return
    try:
        read_openvino(path)
    except ModelError as error:
        yield unread(name, error)
        return
    seen: dict[tuple[str, str], None] = {}
    try:
        # Whoever read it before has refused declarations and depth.
        for _, element in iterparse(path):
            if element.tag == "layer":
                seen[element.get("type", ""), element.get("version", "")] = None
            element.clear()
    except ParseError as error:
        yield Remark("xml", name, f"the XML cannot be read ({error})", unread=True)
    for operator, opset in seen:
        shipped = opset.startswith("opset") and opset[5:].isdigit()
        if operator in ("Parameter", "Result", "Const"):
            continue
        if allowed is not None and not is_allowed(operator, "" if shipped else opset, allowed):
            yield Remark("operator", name, f'operator "{operator}" ({opset}) is not allowed')
        elif allowed is None and not shipped:
            yield Remark(
                "operator", name, f'operator "{operator}" is of the set "{opset}", not OpenVINO\'s'
            )


def scan_safetensors(path: Path, name: str) -> Iterator[Remark]:
    """Yield what is wrong with a safetensors file: whatever the format forbids of its header."""
    try:
        read_safetensors(path)
    except ModelError as error:
        yield Remark("header", name, error.what)


def scan_json(path: Path, name: str) -> Iterator[Remark]:
    """Yield what is wrong with a JSON file: templates, and keys that name code to run."""
    if path.stat().st_size > _LONGEST_JSON:
        yield Remark("text", name, f"the JSON has more than {_LONGEST_JSON >> 20} MiB", unread=True)
        return
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        yield Remark("text", name, f"this is no JSON ({str(error)[:80]})", unread=True)
        return
    if not isinstance(content, dict):
        return
    if path.name == "config.json" and content.get(_CODE_KEY):
        yield Remark("code", name, f'"{_CODE_KEY}" names Python code that loading it can run')
    for key, template in _templates(content.get("chat_template")):
        yield from _template(f"{name} {key}", template)


def scan_template(path: Path, name: str) -> Iterator[Remark]:
    """Yield what is wrong with a file that is a chat template."""
    try:
        yield from _template(name, path.read_text("utf-8"))
    except ValueError as error:
        yield Remark("text", name, f"this is no text ({error})", unread=True)


def _templates(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every template of tokenizer_config.json: one text, or named ones in a list."""
    if isinstance(value, str):
        yield "chat_template", value
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict) and isinstance(each.get("template"), str):
            yield f"chat_template {str(each.get('name', ''))[:40]}".strip(), each["template"]


def _template(where: str, text: str) -> Iterator[Remark]:
    if len(text) >= LONGEST_TEMPLATE:
        yield Remark("template", where, f"the template has more than {LONGEST_TEMPLATE} bytes")
        return
    for fault in template_faults(text):
        yield Remark("template", where, f"the chat template is not harmless: {fault}")


def unread(name: str, error: ModelError) -> Remark:
    """Return the remark for a model file that its reader refuses."""
    return Remark("format", name, f"it cannot be read: {error.what}", unread=True)


def leads_out(location: str, folder: Path) -> bool:
    """Return whether a location leads out of a folder, by its words or through a link."""
    return escapes(location) or leads_elsewhere(folder / location, folder)
