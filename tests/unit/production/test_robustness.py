"""What is kept as evidence of corrupted samples is what is judged when it is read again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.judge.robustness import judge_robustness
from pytest_edgeai.production import robustness
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import PairedQuality, Threshold


def test_evidence_is_read_as_it_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    right = (random.random((2, 300)) < 0.9).astype(np.float64)
    classes = random.integers(0, 3, 300)
    figures = random.normal(0.7, 0.01, 50)
    qualities = (
        PairedQuality("accuracy", "proportion", right[0], right[1], classes),
        PairedQuality(
            "f1",
            "corpus",
            np.ones(600),
            np.ones(600),
            None,
            resamples={"baseline": figures, "candidate": figures},
        ),
    )
    found = robustness._Found(
        tuple(
            CorruptedQuality(f"c{number}", 2, "much", quality, None, quality.baseline_scores - 0.3)
            for number, quality in enumerate(qualities)
        ),
        {"jpeg": "needs a tool"},
    )
    bench = cast("Any", SimpleNamespace(evidence=EvidenceStore(tmp_path)))
    assert robustness._read(bench, "m/robustness") is None
    robustness._write(bench, "m/robustness", found, ["a note"], np.arange(300))
    again = robustness._read(bench, "m/robustness")
    assert again is not None
    threshold = Threshold(0.9, "more_than")
    verdicts = [
        judge_robustness(each.corrupted, threshold, missing=each.missing) for each in (found, again)
    ]
    assert verdicts[0] == verdicts[1]
    assert np.asarray(again.corrupted[0].quality.classes).tolist() == classes.tolist()
