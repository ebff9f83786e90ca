from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.promote.oci_index import REFERENCE, Index, render_index

NAMES = st.text('a"\\,\n]}é', min_size=1, max_size=4)


def descriptor(reference: str, **more: Any) -> dict[str, Any]:
    return {"digest": "sha256:0", "annotations": {REFERENCE: reference}, **more}


@given(st.lists(NAMES, max_size=6), st.sets(NAMES, max_size=3), st.booleans())
def test_what_is_changed_is_what_decoding_all_of_it_would_change(
    references: list[str], removed: set[str], in_lines: bool
) -> None:
    listed = [descriptor(each) for each in references]
    index = {"schemaVersion": 2, "annotations": {"a": "b"}, "manifests": listed}
    content = render_index(index) if in_lines else json.dumps(index, indent=3).encode()
    added = [descriptor("new"), descriptor("newer")]
    changed = json.loads(Index(content).changed(removed, added))
    kept = [each for each in listed if each["annotations"][REFERENCE] not in removed]
    assert changed["manifests"] == kept + added
    assert changed["annotations"] == index["annotations"]
    again = Index(Index(content).changed(removed, added))
    assert again.find(REFERENCE, "newer") == added[1]
    for each in references:
        found = again.find(REFERENCE, each)
        assert (found is None) is (each in removed)


def test_an_annotation_that_stands_elsewhere_does_not_count() -> None:
    other = descriptor("b", deep={REFERENCE: "a"})
    index = Index(render_index({"manifests": [1, [], {"annotations": 3}, other]}))
    assert index.find(REFERENCE, "a") is None
    assert index.find(REFERENCE, "b") == other
    assert json.loads(index.changed(["a"], [descriptor("c")]))["manifests"][3] == other


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"manifests": 1}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_index_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no index of OCI"):
        Index(content)


def test_a_broken_line_is_found_where_it_is_needed() -> None:
    content = render_index({"manifests": [descriptor("a"), descriptor("b")]})
    index = Index(content.replace(b'"a"}}', b'"a"}'))
    assert index.find(REFERENCE, "b") is not None
    with pytest.raises(ValueError):
        index.find(REFERENCE, "a")
