"""Chat templates, which are programs in Jinja: what one of them reaches for beside its messages.

Read with Jinja's own parser where it is installed, so that escapes and spacing hide nothing, and by
rules on the text elsewhere. The rules are those of jinja2.sandbox (no name that starts with an
underscore, no unbounded range) and the gadgets of CVE-2024-34359 (llama-cpp-python).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MOST_RANGE = 100_000
"""What jinja2.sandbox allows a range to be long (MAX_RANGE)."""
_CALLS = frozenset(
    {
        "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "execfile", "getattr",
        "globals", "input", "locals", "open", "setattr", "vars",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "ag_frame", "cr_frame", "f_builtins", "f_globals", "func_globals", "gi_frame",
        "import_string", "mro", "popen", "subclasses", "tb_frame",
    }
)  # fmt: skip
# The role of a message has this name as well.
_METHODS = frozenset({"system"})
_MODULES = frozenset({"builtins", "importlib", "os", "subprocess", "sys"})
# A name with two underscores at an end, or one half of it that is put together later.
_DUNDER = re.compile(r"__[A-Za-z_]*|[A-Za-z_]*__")
_CODE = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
_TEXT_RULES = (
    (re.compile(r"__\w+"), "it names {}"),
    (re.compile(rf"\b(?:{'|'.join(sorted(_CALLS - {'__import__'}))})\s*\("), "it calls {}"),
    (re.compile(rf"\.\s*(?:{'|'.join(sorted(_ATTRIBUTES))})\b"), "it reaches for {}"),
    (re.compile(rf"\.\s*(?:{'|'.join(sorted(_METHODS))})\s*\("), "it calls {}"),
    (re.compile(rf"\b(?:{'|'.join(sorted(_MODULES))})\s*[.\[]"), "it reaches for {}"),
    (re.compile(r"\|\s*attr\b"), "it looks attributes up by {}"),
    (re.compile(r"^-?\s*(?:include|import|from|extends)\b"), "it reads another template by {}"),
)
_MOST_TOLD = 5


def template_faults(text: str) -> tuple[str, ...]:
    """Return what a chat template does that none has to, a sentence without its full stop each.

    Args:
        text: the template.
    """
    try:
        faults = list(dict.fromkeys(_parsed_faults(text)))
    except _NotParsed:
        faults = list(dict.fromkeys(_text_faults(text)))
    return tuple(faults[:_MOST_TOLD])


class _NotParsed(Exception):
    """Jinja is not installed, or the template uses tags that it does not know."""


def _parsed_faults(text: str) -> Iterator[str]:
    try:
        from jinja2 import Environment, TemplateSyntaxError, nodes
    except ImportError:
        raise _NotParsed from None
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except (TemplateSyntaxError, RecursionError, ValueError):
        raise _NotParsed from None
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Getattr):
            if node.attr.startswith("_") or node.attr in _ATTRIBUTES:
                yield f'it reaches for the attribute "{node.attr}"'
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            if _DUNDER.fullmatch(node.value) or node.value in _ATTRIBUTES:
                yield f'it spells the name "{node.value}"'
        elif isinstance(node, nodes.Filter) and node.name in ("attr", "map"):
            yield from _looked_up(node, nodes)
        elif isinstance(node, nodes.Name) and node.name in (_MODULES | {"__import__"}):
            yield f'it reaches for "{node.name}"'
        elif isinstance(node, nodes.Call):
            yield from _called(node, nodes)
        elif isinstance(node, (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            yield "it reads another template"


def _looked_up(node: Any, nodes: Any) -> Iterator[str]:
    """Yield what the filters do that look attributes up by a name."""
    if node.name == "attr" and not (node.args and isinstance(node.args[0], nodes.Const)):
        yield "it looks attributes up by a name that it puts together"
    for keyword in node.kwargs:
        if keyword.key == "attribute" and not isinstance(keyword.value, nodes.Const):
            yield "it looks attributes up by a name that it puts together"


def _called(node: Any, nodes: Any) -> Iterator[str]:
    if isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS:
        yield f'it calls "{node.node.attr}"'
    if not isinstance(node.node, nodes.Name):
        return
    name = node.node.name
    if name in _CALLS:
        yield f'it calls "{name}"'
    if name == "range":
        for argument in node.args:
            if (
                isinstance(argument, nodes.Const)
                and isinstance(argument.value, int)
                and argument.value > MOST_RANGE
            ):
                yield f"it counts to {argument.value}"


def _text_faults(text: str) -> Iterator[str]:
    for match in _CODE.finditer(text):
        code = match.group(1) or match.group(2) or ""
        for rule, words in _TEXT_RULES:
            if found := rule.search(code):
                yield words.format(f'"{found.group().strip()[:40]}"')
