from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.promote.registry_log import (
    NO_PARENT,
    Damaged,
    Entry,
    _decoded_entries,
    _plain_entries,
    current_and_previous,
    entry_of,
    parse_log,
    render_entry,
    replay,
)


def log_of(actions: list[tuple[str, str, str]]) -> bytes:
    """Return a log of ``(action, model, bundle)``."""
    import hashlib

    content, parent = b"", NO_PARENT
    for number, (action, model, bundle) in enumerate(actions, start=1):
        line = render_entry(
            Entry(number, "2026", action, model, "t", "c", bundle, None, "k", "e", parent)  # type: ignore[arg-type]
        )
        parent = hashlib.sha256(line[:-1]).hexdigest()
        content += line
    return content


THREE = log_of([("promote", "m", "A"), ("promote", "é\n", "B"), ("promote", "m", "C")])


def test_a_log_is_read_as_it_was_written() -> None:
    log = parse_log(THREE, "log")
    assert [entry.bundle for entry in log.entries] == ["A", "B", "C"]
    assert log.entries[1].model == "é\n"
    assert log.size_bytes == len(THREE)
    assert b"".join(map(render_entry, log.entries)) == THREE
    before = log.without_last()
    assert before.last_sha256 == parse_log(THREE[: before.size_bytes], "log").last_sha256


def test_an_empty_log_is_one() -> None:
    log = parse_log(b"", "log")
    assert (list(log.entries), log.size_bytes, log.last_sha256) == ([], 0, NO_PARENT)


@given(st.integers(0, len(THREE)))
def test_a_line_that_was_cut_did_not_happen(size: int) -> None:
    log = parse_log(THREE[:size], "log")
    assert len(log.entries) == THREE[:size].count(b"\n")
    assert THREE[: log.size_bytes] == THREE[:size][: log.size_bytes]


@given(st.integers(0, len(THREE[: THREE.rindex(b"\n", 0, -1)]) - 1), st.integers(0, 7))
def test_a_changed_bit_in_any_line_but_the_last_is_found(position: int, bit: int) -> None:
    changed = bytearray(THREE)
    changed[position] ^= 1 << bit
    with pytest.raises(Damaged, match="log is damaged"):
        parse_log(bytes(changed), "log")


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"1,2\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        THREE.split(b"\n", 1)[1],
        THREE + THREE.split(b"\n", 1)[0] + b"\n",
    ],
)
def test_what_is_no_log_is_one_line(content: bytes) -> None:
    with pytest.raises(Damaged, match=r"log is damaged: ") as caught:
        parse_log(content, "log")
    assert "\n" not in str(caught.value)


def test_the_damaged_line_is_named() -> None:
    lines = THREE.splitlines(keepends=True)
    with pytest.raises(Damaged, match="line 2 is no JSON"):
        parse_log(lines[0] + b"{\n" + lines[2], "log")
    with pytest.raises(Damaged, match="line 2 does not follow"):
        parse_log(lines[0] + lines[2], "log")
    raw = json.loads(lines[0])
    raw["more"] = 1
    with pytest.raises(Damaged, match="line 1 does not follow"):
        parse_log(json.dumps(raw).encode() + b"\n", "log")


def test_a_rollback_goes_back_to_what_lay_below() -> None:
    log = parse_log(
        log_of(
            [
                ("promote", "m", "A"),
                ("promote", "m", "B"),
                ("promote", "m", "C"),
                ("rollback", "m", "B"),
                ("promote", "n", "X"),
                ("rollback", "m", "A"),
            ]
        ),
        "log",
    )
    bundles = {
        pair: [entry.bundle for entry in stack]
        for pair, stack in replay(log.entries, "log").items()
    }
    assert bundles == {("m", "t"): ["A"], ("n", "t"): ["X"]}
    earlier = replay(log.entries[:4], "log")["m", "t"]
    position = current_and_previous(earlier)
    assert position["current"] is not None
    assert position["previous"] is not None
    assert (position["current"].bundle, position["previous"].bundle) == ("B", "A")


@pytest.mark.parametrize(
    "actions",
    [
        [("rollback", "m", "A")],
        [("promote", "m", "A"), ("rollback", "m", "A")],
        [("promote", "m", "A"), ("promote", "m", "B"), ("rollback", "m", "B")],
        [("promote", "m", "A"), ("promote", "m", "B"), ("remove", "m", "A")],
    ],
)
def test_what_could_not_have_happened_is_damage(actions: list[tuple[str, str, str]]) -> None:
    with pytest.raises(Damaged, match="could not have happened"):
        replay(parse_log(log_of(actions), "log").entries, "log")


BUNDLES = st.sampled_from("ABC")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("mn"), BUNDLES), max_size=30))
def test_what_stands_is_what_promotions_less_rollbacks_left(
    wishes: list[tuple[bool, str, str]],
) -> None:
    expected: dict[str, list[str]] = {"m": [], "n": []}
    actions = []
    for promotes, model, bundle in wishes:
        stack = expected[model]
        if promotes:
            stack.append(bundle)
        elif len(stack) > 1:
            stack.pop()
        else:
            continue
        actions.append(("promote" if promotes else "rollback", model, stack[-1]))
    found = replay(parse_log(log_of(actions), "log").entries, "log")
    assert {model: [e.bundle for e in found.get((model, "t"), ())] for model in "mn"} == expected


def test_an_entry_keeps_its_order_of_fields() -> None:
    assert list(json.loads(THREE.splitlines()[0])) == list(Entry._fields)


TEXTS = st.text('a"\\\n,{}é:0 ', max_size=4)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.none() | TEXTS), max_size=4))
def test_the_quick_way_to_read_lines_reads_what_decoding_them_does(
    rows: list[tuple[str, str, str, str | None]],
) -> None:
    entries = [
        Entry(number, "t", "promote", model, "i", "c", bundle, replaced, "k", expires, "p")
        for number, (model, bundle, expires, replaced) in enumerate(rows, start=1)
    ]
    lines = list(map(render_entry, entries))
    content = b"".join(lines)
    quick = _plain_entries(content, len(lines))
    if quick is None:
        assert b"\\" in content or b'"replaced":""' in content
    else:
        assert list(quick) == entries
    assert list(_decoded_entries([line[:-1] for line in lines], "log")) == entries


@pytest.mark.parametrize(
    "change",
    [{"sequence": "1"}, {"sequence": True}, {"model": ["m"]}, {"replaced": 3}, {"parent": None}],
)
def test_a_field_of_another_type_is_no_entry(change: dict[str, object]) -> None:
    fields = json.loads(THREE.splitlines()[0])
    assert entry_of(fields) is not None
    assert entry_of(fields | change) is None
    line = json.dumps(fields | change, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(Damaged, match="line 1 does not follow"):
        parse_log(line, "log")
