"""Progress: a step is told by its words, and what does not stay is cleared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.progress import REPEAT_AFTER_S, Progress


class Log:
    """A display that keeps what it is given; with a status line where ``interactive``."""

    def __init__(self, interactive: bool = False) -> None:
        self.interactive = interactive
        self.lines: list[str] = []
        self.statuses: list[str] = []

    def line(self, text: str) -> bool:
        self.lines.append(text)
        return True

    def status(self, text: str) -> bool:
        if self.interactive:
            self.statuses.append(text)
        return self.interactive

    def clear(self) -> None:
        self.statuses.clear()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_numbers_make_no_other_step(counts: list[int]) -> None:
    log, clock = Log(), Clock()
    progress = Progress(log, clock)
    for count in counts:
        clock.now += REPEAT_AFTER_S / 100
        progress.step("digits int8", f"calibrating, {count} of 200 ({count / 7:.1f} s)")
    assert len(log.lines) == 1


def test_words_and_subjects_make_another_step() -> None:
    log = Log()
    progress = Progress(log, Clock())
    for subject, what in (("a", "one"), ("a", "two"), ("b", "two"), ("a", "two")):
        progress.step(subject, what)
    assert log.lines == ["a: one", "a: two", "b: two", "a: two"]


def test_a_step_that_goes_on_is_repeated_with_its_share_and_time() -> None:
    log, clock = Log(), Clock()
    progress = Progress(log, clock)
    for second in range(25):
        clock.now = float(second)
        progress.step("a", "working", second / 100)
    assert log.lines == ["a: working", "a: working 10%, 10 s", "a: working 20%, 20 s"]


def test_a_status_line_follows_every_change_and_nothing_stays() -> None:
    log, clock = Log(interactive=True), Clock()
    progress = Progress(log, clock)
    for second in range(3):
        clock.now = float(second)
        progress.step("a", f"working, {second} of 3", second / 3)
        progress.step("a", f"working, {second} of 3", second / 3)
    assert log.statuses == [
        "a: working, 0 of 3",
        "a: working, 1 of 3 33%, 1 s",
        "a: working, 2 of 3 67%, 2 s",
    ]
    progress.clear()
    assert (log.lines, log.statuses) == ([], [])


def test_notes_are_kept_once_and_in_order() -> None:
    progress = Progress()
    for note in ("b", "a", "b"):
        progress.note(note)
    progress.step("nobody", "sees this")
    assert progress.notes == ("b", "a")


def test_a_detail_is_for_a_status_line_alone_and_makes_no_other_step() -> None:
    clock, log, screen = Clock(), Log(), Log(interactive=True)
    for display in (log, screen):
        progress = Progress(display, clock)
        for number, detail in enumerate(("making", "timing", "evaluating")):
            clock.now += 1.0
            progress.step("search", f"trial {number} of 3", detail=detail)
    assert log.lines == ["search: trial 0 of 3"]
    assert screen.statuses[0] == "search: trial 0 of 3: making"
    assert screen.statuses[-1].endswith(": evaluating")
