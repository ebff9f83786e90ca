"""Open files and threads under constant load: counted, not estimated, so that a rule decides."""

from __future__ import annotations

import numpy as np

from pytest_edgeai.judge.endurance_parts import Part
from pytest_edgeai.judge.verdict import count_text
from pytest_edgeai.production_records import CountSamples, EnduranceSamples
from pytest_edgeai.records import JSON, Int64Array

LEAST_RISE = 3
"""Fewer may be a pool that opened late; a leak has opened more by the end of a load."""

_COLUMNS = (("file", "descriptors"), ("thread", "threads"))


def judge_counts(samples: EnduranceSamples) -> list[Part]:
    """Decide about open files and threads, see :func:`rise`."""
    return [
        _judge(noun, _side(samples.baseline, column), _side(samples.candidate, column))
        for noun, column in _COLUMNS
    ]


def rise(counts: Int64Array) -> int:
    """Return by how much a count rose and went on rising, 0 where it did not.

    The load is cut into thirds. The least count of each is what is open all the time: a file that
    is opened and closed again does not raise it, and a pool that opens once raises it once. It
    rises where each third's is above that of the third before.
    """
    third = len(counts) // 3
    if third < 1:
        return 0
    first, middle, last = (int(part.min()) for part in np.array_split(counts, 3))
    return last - first if first < middle < last else 0


def _judge(noun: str, baseline: Int64Array | None, candidate: Int64Array | None) -> Part:
    name = f"open {noun}s" if noun == "file" else f"{noun}s"
    if baseline is None or candidate is None:
        return Part(name, None, f"{name} (this system does not tell)")
    own, beside = rise(candidate), rise(baseline)
    figures: dict[str, JSON] = {
        "baseline": [int(baseline[0]), int(baseline.max()), int(baseline[-1])],
        "candidate": [int(candidate[0]), int(candidate.max()), int(candidate[-1])],
        "rise": own - beside,
    }
    text = (
        f"{count_text(int(candidate[0]), noun)} at first, {int(candidate[-1]):,} in the end "
        f"(baseline {int(baseline[0]):,} and {int(baseline[-1]):,})"
    )
    if own - beside < LEAST_RISE:
        return Part(name, "pass", text, figures=figures)
    advice = f"look for {noun}s that a call opens and leaves"
    return Part(name, "fail", f"{text}, and rising in every third", advice, figures)


def _side(counts: CountSamples, column: str) -> Int64Array | None:
    found: Int64Array | None = getattr(counts, column)
    return found
