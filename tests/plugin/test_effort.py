"""How much data and time the gates take, said by ``--edge-plan`` and before anything is made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import pytest
from edge_runs import Place, Run
from models import linear_classifier

from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE

STRICT = "[gates]\naccuracy_retained = 0.99\nmemory_cut = false\n"
NO_MEMORY = "[gates]\nmemory_cut = false\n"
WITH_LLAMACPP = importlib.util.find_spec("llama_cpp") is not None


def table(run: Run) -> dict[str, str]:
    """Return gate to the rest of its row of the printed plan, blanks collapsed."""
    lines = run.text.split("data and time\n", 1)[1].splitlines()[1:]
    rows = (
        line.split(maxsplit=1) for line in lines if line.startswith("    ") and "  " in line[4:]
    )
    return {row[0]: " ".join(row[1].split()) for row in rows if len(row) == 2}


def flat(run: Run) -> str:
    return " ".join(run.text.split())


def effort_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.report["models"][0]["effort"]
    return found


@pytest.fixture
def own_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other session on the machine measures under the lock of these runs."""
    monkeypatch.setenv(LOCK_DIRECTORY_VARIABLE, str(place.path))


@pytest.fixture
def small(place: Place) -> Place:
    """A project with 40 evaluation samples and a strict limit."""
    folder = place.path / "small"
    folder.mkdir()
    place.write(STRICT, (linear_classifier(folder, n=40),))
    return place


def test_the_plan_says_needed_available_and_missing(small: Place) -> None:
    run = small.run("--edge-plan", own_cache=True)
    assert run.code == 0
    rows = table(run)
    assert rows["accuracy_retained"] == "6,191 evaluation samples 40 6,151"
    assert rows["speedup"].startswith("85 rounds, ")
    assert rows["speedup"].endswith(" 60 s -")
    assert "memory_cut" not in rows
    told = flat(run)
    assert "301 can pass at all, 1,280 where 100% is retained" in told
    assert "an estimate from the model's work" in told
    assert not (small.path / ".edgeai").exists()


def test_the_plan_fits_narrow_terminals(small: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    run = small.run("--edge-plan")
    section = run.text.split("data and time\n", 1)[1].split("no tests ran", 1)[0].splitlines()
    assert max(map(len, section[:-1])) <= 50
    assert "6,191 evaluation samples needed, 40 available, 6,151 missing" in flat(run)


def test_a_run_says_what_is_missing_before_it_optimizes(small: Place, own_lock: None) -> None:
    run = small.run(
        "--edge-budget=0.001", "-k", "artifact_size", "--edge-inconclusive=skip", own_cache=True
    )
    [note] = [note for note in run.report["notes"] if note.startswith("linear: 40 evaluation")]
    assert "can never pass accuracy_retained > 0.99: add 261 to pass at all" in note
    assert "and 0.001 s are allowed: raise --edge-budget to 0." in note
    assert run.text.index("raise --edge-budget to") < run.text.index("looking for the artifact")
    effort = effort_of(run)
    [data] = [each for each in effort["data"] if each["need"]["gate"] == "accuracy_retained"]
    assert (data["available"], data["missing"], data["need"]["least"]) == (40, 6151, 301)
    speed = effort["times"][0]
    assert speed["need"]["gate"] == "speedup"
    assert speed["call"]["source"] == "measured"
    assert speed["missing_s"] == pytest.approx(speed["asked_s"] - 0.001)
    assert effort["processes"] == []


def test_a_run_with_enough_says_nothing_and_the_next_one_remembers(
    place: Place, own_lock: None
) -> None:
    place.write(NO_MEMORY)
    speed = ("-k", "accuracy_retained or speedup")
    first = place.run(*speed, own_cache=True)
    assert not [note for note in first.report["notes"] if "evaluation samples" in note]
    assert "needed" not in first.text
    sources = {each["call"]["source"] for each in effort_of(first)["times"]}
    assert sources == {"measured"}
    second = place.run("-v", "-k", "artifact_size", own_cache=True)
    effort = effort_of(second)
    assert {each["call"]["source"] for each in effort["times"]} == {"history"}
    assert "measured before" in effort["data"][0]["need"]["note"]
    assert "linear accuracy_retained: " in second.text
    assert "evaluation samples needed, 600 available" in flat(second)
    plan = place.run("--edge-plan", own_cache=True)
    assert "measured in an earlier session" in flat(plan)
    # With other threads nothing was measured yet.
    plan = place.run("--edge-plan", "--edge-threads=2", own_cache=True)
    assert "an estimate" in flat(plan)


def test_a_damaged_history_is_no_reason_to_stop(place: Place) -> None:
    place.write(NO_MEMORY)
    (place.path / ".edgeai").mkdir()
    (place.path / ".edgeai" / "history.sqlite3").write_bytes(b"no database at all" * 100)
    run = place.run("--edge-plan", own_cache=True)
    assert run.code == 0
    assert "an estimate" in flat(run)


def test_absolute_limits_and_percentiles_set_the_rounds(place: Place) -> None:
    place.write("[gates]\nlatency_p99_limit_ms = 50\nlatency_consistency_percentile = 99\n")
    run = place.run("--edge-plan")
    assert table(run)["latency_consistency"].startswith("662 rounds, ")
    assert "299 rounds at least for the limit of p99 with no call over it" in flat(run)
    assert table(run)["memory_cut"] == "6 fresh processes no limit -"


def planned_with(place: Place, metric: str, **arrays: Any) -> Run:
    """Plan the small project with another metric and other arrays in its evaluation data."""
    manifest = place.write(NO_MEMORY)
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace("task =", f'metric = "{metric}"\ntask ='), "utf-8")
    data = place.path / place.linear.data.name
    with np.load(data) as archive:
        kept = {name: archive[name] for name in archive.files}
    np.savez(data, **{**kept, **arrays})
    return place.run("--edge-plan")


def test_a_figure_of_the_whole_set_has_classes_all_the_same(place: Place) -> None:
    rows = table(planned_with(place, "f1"))
    assert rows["accuracy_retained"] == "500 evaluation samples 600 -"
    assert rows["slice_retained"].startswith("18 samples per class and slice ")
    assert rows["slice_retained"].endswith(" -")


def test_objects_are_counted_where_objects_are_judged(place: Place) -> None:
    objects = np.full((600, 3, 5), -1.0)
    objects[:, 0] = [0, 0, 5, 5, 0]
    objects[:20, 1] = [0, 0, 5, 5, 1]
    slices = np.repeat(["day", "night"], [570, 30])
    run = planned_with(place, "mean_average_precision", labels=objects, slices=slices)
    assert table(run)["slice_retained"] == "18 objects per class and slice 20 -"


def test_recall_takes_samples_that_belong_together(place: Place) -> None:
    groups = np.concatenate([np.arange(500), np.repeat(np.arange(500, 550), 2)])
    slices = np.repeat(["a", "b"], [560, 40])
    run = planned_with(place, "cosine", labels=groups, slices=slices)
    rows = table(run)
    assert rows["accuracy_retained"] == "221 samples of a group 100 121"
    assert rows["slice_retained"] == "18 samples per class and slice 40 -"
    assert "at a baseline recall@k of 95%" in flat(run)


def test_a_loss_takes_thirty_samples(place: Place) -> None:
    folder = place.path / "small"
    folder.mkdir()
    manifest = place.write(NO_MEMORY, (linear_classifier(folder, n=20),))
    text = manifest.read_text("utf-8").replace("tabular-classification", "tabular-regression")
    manifest.write_text(text, "utf-8")
    run = place.run("--edge-plan")
    assert table(run)["accuracy_retained"] == "30 evaluation samples 20 10"
    assert "how many more depends on how they vary" in flat(run)


def test_what_is_only_known_when_the_gates_run_says_so(place: Place) -> None:
    manifest = place.write(NO_MEMORY)
    lines = manifest.read_text("utf-8").splitlines()
    lines = ['data = "theirs:data"' if line.startswith("data") else line for line in lines]
    manifest.write_text("\n".join(lines), "utf-8")
    run = place.run("--edge-plan")
    assert table(run)["accuracy_retained"] == "221 evaluation samples unknown unknown"
    assert "theirs:data is called when the gates run" in flat(run)


def test_a_gate_that_is_off_takes_nothing(place: Place) -> None:
    place.write("[gates]\nspeedup = false\naccuracy_retained = false\nmemory_cut = false\n")
    rows = table(place.run("--edge-plan"))
    assert not {"speedup", "accuracy_retained", "memory_cut"} & set(rows)
    assert "latency_consistency" in rows


@pytest.mark.skipif(
    not WITH_LLAMACPP,
    reason="llama_cpp is not installed; run: pip install 'pytest-edgeai[cross]'",
)
@pytest.mark.parametrize(
    ("data", "row", "unknown"),
    [
        ("held-out.npz", "8 blocks of text 6 2", ""),
        ("held-out.txt", "8 blocks of text unknown unknown", "held-out.txt is tokenized"),
    ],
)
def test_a_language_model_counts_blocks_and_phases(
    place: Place, data: str, row: str, unknown: str
) -> None:
    folder: Path = llama.write_huggingface(place.path / "chat", llama.CONFIG)
    np.savez(place.path / "held-out.npz", input_ids=np.zeros((3, 64), np.int32))
    (place.path / "held-out.txt").write_text("the model is measured", "utf-8")
    (place.path / "edgeai.toml").write_text(
        f'[models.chat]\npath = {json.dumps(str(folder))}\ntask = "text-generation"\n'
        f'data = "{data}"\ncontext_length = 32\n',
        "utf-8",
    )
    run = place.run("--edge-plan", "--edge-framework=llamacpp")
    assert run.code == 0
    rows = table(run)
    assert rows["accuracy_retained"] == row
    assert {"speedup", "prefill", "time_to_first_token"} <= set(rows)
    told = flat(run)
    assert unknown in told
    assert "to read a block " in told
    assert "to answer a prompt " in told
