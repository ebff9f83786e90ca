"""SPDX expressions: which are known, which may ship, and what a wrong one is told."""

from __future__ import annotations

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.licenses import ALLOWED_BY_DEFAULT, PERMISSIVE, denied_licenses, parse_license

pytest.importorskip("license_expression", reason="needs: pip install license-expression")


def denied(text: str, *allowed: str) -> tuple[str, ...]:
    return denied_licenses(text, allowed or ALLOWED_BY_DEFAULT, "where")


@pytest.mark.parametrize("text", ALLOWED_BY_DEFAULT)
def test_every_default_is_a_licence_that_is_known(text: str) -> None:
    assert denied(text) == ()
    assert denied(text, "ISC" if text == "MIT" else "MIT") == (text,)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("apache-2.0", ()),
        ("MIT AND CC-BY-4.0", ()),
        ("MIT OR GPL-3.0-only", ()),
        ("GPL-3.0-only OR (MIT AND Apache-2.0)", ()),
        ("GPL-3.0-only AND MIT", ("GPL-3.0-only",)),
        ("CC-BY-NC-4.0 OR GPL-3.0-only", ("CC-BY-NC-4.0", "GPL-3.0-only")),
        ("Apache-2.0 WITH LLVM-exception", ()),
        ("LicenseRef-Proprietary", ("LicenseRef-Proprietary",)),
    ],
)
def test_alternatives_need_one_and_what_applies_together_all(
    text: str, names: tuple[str, ...]
) -> None:
    assert denied(text) == names


def test_the_manifest_s_own_list_replaces_the_default() -> None:
    assert denied("LicenseRef-Proprietary", "LicenseRef-proprietary") == ()
    assert denied("MIT", "LicenseRef-Proprietary") == ("MIT",)
    exact = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert denied(exact, exact) == ()
    assert denied("GPL-2.0-only", exact) == ("GPL-2.0-only",)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("Apache2.0", "Apache-2.0"), ("llama3.1", "LicenseRef-llama3.1"), ("MTI", "MIT")],
)
def test_an_unknown_licence_is_one_line_with_the_closest(text: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_license(text, "edgeai.toml [models.x] license")
    assert str(caught.value).startswith(
        f'edgeai.toml [models.x] license: unknown licence "{text}"; allowed: an SPDX expression'
    )
    assert f'id you mean "{hint}"?' in str(caught.value)


@pytest.mark.parametrize("text", ["MIT AND", "(MIT", "()", " ", "MIT OR OR", "AND", "MIT) (", "🙂"])
def test_what_is_no_expression_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="licence"):
        parse_license(text, "where")


def test_the_defaults_are_in_order() -> None:
    assert list(PERMISSIVE) == sorted(PERMISSIVE)
