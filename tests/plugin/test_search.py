"""``--edge-search`` on a real project: what is found is gated on samples that did not choose it."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from edge_runs import QUICK, Place
from models import small_cnn

pytest.importorskip("optuna", reason='pip install "pytest-edgeai[search]"')

SEARCH = """
[search]
time_box_s = 100
finalists = 2

[search.space]
scheme = ["int8-static", "int8-dynamic"]
per_channel = [true]
symmetric_activations = [false]
calibrate_method = ["minmax"]
activation_type = ["uint8"]
calibration_calls = [50]
weight_type = ["int8", "uint8"]
prune_ratio = [0.0]

[search.hints.onnxruntime]
graph_optimization_level = ["all"]
"""
ACCURACY = ("-k", "accuracy_retained")


def search_of(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = report["models"][0]["searches"]["cross"]
    return found


def test_what_is_found_is_gated_and_found_again(place: Place) -> None:
    """Three trials, whose finalists are gated; a second session of two processes tries nothing."""
    place.write(QUICK + SEARCH)
    first = place.run("--edge-search=3", *ACCURACY, own_cache=True)
    assert first.code == 0, first.text
    search = search_of(first.report)
    candidates = [each["id"] for each in first.report["models"][0]["candidates"]]
    assert search["ended"] == "trials"
    assert len(search["trials"]) == 3
    assert len({str(trial["recipe"]["options"]) for trial in search["trials"]}) >= 2
    assert search["finalists"]
    assert sorted(candidates) == sorted(search["finalists"])
    assert not any(sign in name for name in candidates for sign in "[]:")
    assert {t["state"] for t in search["trials"]} <= {"measured", "finalist", "screened-out"}
    finalist = next(t for t in search["trials"] if t["state"] == "finalist")
    assert set(finalist["figures"]) == {"speedup", "accuracy_retained", "memory_cut"}
    assert "trial 1 of 3 (100 s left)" in first.text
    # The linear model has 600 evaluation samples; the search and the gates share none of them.
    judged = next(g for g in first.candidate()["gates"] if g["name"] == "accuracy_retained")
    assert judged["samples"] < 600
    assert "20% of the evaluation data" in first.text

    again = place.run("--edge-search=3", *ACCURACY, "-n2", own_cache=True)
    assert again.code == 0, again.text
    assert [each["id"] for each in again.report["models"][0]["candidates"]] == candidates
    assert search_of(again.report)["trials"] == search["trials"]
    assert "trial " not in again.text


LOSSY = """
[search]
time_box_s = 100
selection_share = 0.5

[search.space]
scheme = ["int8-static"]
per_channel = [true]
symmetric_activations = [false]
calibrate_method = ["percentile"]
activation_type = ["uint8"]
percentile = [96.0]
calibration_calls = [50]
prune_ratio = [0.0]

[search.hints.onnxruntime]
"""
"""One recipe, which cuts the activations of a network so short that it loses accuracy."""


def test_layers_are_given_back_where_accuracy_is_lost(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = small_cnn(tmp_path_factory.mktemp("cnn"), n=1500)
    place.write(QUICK + LOSSY, (network,))
    run = place.run("--edge-search=2", *ACCURACY, own_cache=True)
    assert run.code == 0, run.text
    search = search_of(run.report)
    lost, found = search["trials"]
    assert lost["misses"] == {"accuracy_retained": "surely"}
    assert found["state"] == "finalist"
    name = run.candidate()["id"]
    assert search["finalists"] == [name]
    assert search["restored"][name] == found["recipe"]["options"]["nodes_to_exclude"]
    assert search["storage"] == "sqlite .edgeai/search/studies.sqlite3"
    assert run.verdicts() == {"accuracy_retained": "pass"}


def test_the_models_own_selection_data_leave_the_gates_all_samples(place: Place) -> None:
    path = place.write(QUICK + SEARCH)
    with np.load(place.path / "linear-calibration.npz") as calibration:
        inputs = dict(calibration)
    rng = np.random.default_rng(5)
    inputs["labels"] = rng.integers(0, 4, len(next(iter(inputs.values()))))
    np.savez(place.path / "selection.npz", **inputs)
    text = path.read_text("utf-8")
    stated = text.replace('data = "', 'selection = "selection.npz"\ndata = "', 1)
    path.write_text(stated, "utf-8")
    run = place.run("--edge-search=1", "--edge-plan")
    assert run.code == 0, run.text
    assert 'chosen by the model\'s selection data "selection.npz"' in run.text
    assert "search of linear for cross: 4 points" in run.text
    # The same file for both would choose by what judges, so that nothing is searched.
    shutil.copy(place.path / "linear-test.npz", place.path / "selection.npz")
    both = place.run("--edge-search=1", *ACCURACY, own_cache=True)
    assert "not searched" in both.text
    assert "are evaluation samples" in both.text


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[search]\nstorage = "odd://me:hidden@host/db"', "cannot be opened"),
        ('[search.space]\nscheme = ["q4_0"]', "there is nothing to search"),
        ("[search]\ntime_box_s = 0.001", "no trial of linear came to its end"),
    ],
)
def test_a_wrong_table_is_one_line(place: Place, table: str, words: str) -> None:
    place.write(QUICK + table)
    run = place.run("--edge-search=1", *ACCURACY, own_cache=True)
    text = run.text + run.result.stderr.str()
    assert run.code == 4, text
    assert words in text
    assert "Traceback" not in text
    assert "hidden" not in text
