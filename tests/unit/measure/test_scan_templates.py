"""Chat templates: those of common models, and those that reach for the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_edgeai.measure.scan_templates import _text_faults, template_faults

LLAMA = """{%- set ns = namespace(found=false) -%}
{{- bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no __system__') }}
{% endif %}{% for message in messages %}{% if loop.index0 > 3 %}{% break %}{% endif %}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' +
   message['content'] | trim + '<|eot_id|>' }}{% set ns.found = true %}{% endfor %}
{% for tool in tools %}{{ tool | tojson(indent=2) }}{{ tool.function.name }}{% endfor %}
{% for x in messages | selectattr('role', 'equalto', 'user') | map(attribute='content') %}{{ x }}
{% endfor %}{{ messages | length }}{% if add_generation_prompt %}{{ '<|im_start|>__' }}{% endif %}
<|__not_code__|> The system imports os.
"""
HUB = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
EVIL = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "item": "{{ ''['__class__'] }}",
    "escaped": r"{{ ''['\x5f\x5fclass\x5f\x5f'] }}",
    "halves": "{{ ''['__cla' ~ 'ss__'] }}",
    "filter": "{{ '' | attr('__class__') }}",
    "filtered": "{{ '' | attr(messages[0].content) }}",
    "mapped": "{{ [''] | map(attribute=messages[0].content) | list }}",
    "import": "{% import 'other' as o %}",
    "include": "{% include messages[0].content %}",
    "call": "{{ __import__('os') }}",
    "open": "{{ open('/etc/passwd').read() }}",
    "module": "{{ os.environ }}",
    "system": "{{ x.system('id') }}",
    "count": "{% for i in range(999999999) %}{% endfor %}",
}


@pytest.mark.parametrize("template", [LLAMA, HUB, "", "plain text {", "{{ messages }}"])
def test_templates_of_models_are_harmless(template: str) -> None:
    assert template_faults(template) == ()


@pytest.mark.parametrize("name", EVIL)
def test_a_template_that_reaches_for_the_interpreter_is_found(name: str) -> None:
    pytest.importorskip("jinja2", reason="needs: pip install jinja2")
    [fault, *_] = template_faults(LLAMA + EVIL[name])
    assert fault.startswith("it ")


@pytest.mark.parametrize("name", [n for n in EVIL if n not in ("escaped", "mapped", "count")])
def test_without_the_parser_the_text_tells(name: str) -> None:
    assert list(_text_faults(EVIL[name]))
    assert not list(_text_faults(HUB))
    assert template_faults(HUB + EVIL[name])


def test_jinja_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from pytest_edgeai.measure.scan_templates import template_faults as t\n"
        "print(t('{{ x.__class__ }}'), t('{{ x }}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == """('it names "__class__"',) ()"""


def test_a_template_of_a_megabyte_does_not_hang() -> None:
    assert template_faults("{{ a }}" * 50_000) == ()
    assert template_faults("{{ (" + "(" * 5000 + "x" + ")" * 5000 + ") }}") == ()
