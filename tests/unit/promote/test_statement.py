from __future__ import annotations

import json

import pytest

from pytest_edgeai.promote.statement import PREDICATE_TYPE, STATEMENT_TYPE, parse_statement

HEAD = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "what is signed is no JSON"),
        (b"null", "what is signed is no in-toto statement"),
        (b"[]", "what is signed is no in-toto statement"),
        (b"[" * 100_000, "what is signed is nested too deeply"),
        (b"{}", "the part '_type' is missing"),
        (json.dumps({**HEAD, "predicate": {}, "subject": 3}).encode(), "a part is of another kind"),
    ],
)
def test_what_is_no_statement_is_told_in_our_words(payload: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_statement(payload)
    assert str(caught.value).startswith(reason)
