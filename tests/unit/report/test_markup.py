from __future__ import annotations

import html

from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.report.markup import Markup, element, join, lines, text


@given(st.text())
def test_text_holds_no_markup_and_nothing_invisible(value: str) -> None:
    made = text(value)
    assert not {"<", ">", '"', "'"} & set(made)
    assert html.unescape(made).isprintable()


def test_only_what_was_made_here_is_markup() -> None:
    made = element("p", "<b>", element("b", "x"), None, class_="a", data_title='"><script>')
    assert made == '<p class="a" data-title="&quot;&gt;&lt;script&gt;">&lt;b&gt;<b>x</b></p>'
    assert join(("&", Markup("&amp;")), " ") == "&amp; &amp;"
    assert lines(("a<", "b")) == "a&lt;\nb"


def test_attributes_can_be_switches() -> None:
    assert element("details", open=True, hidden=False, id=None) == "<details open></details>"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
