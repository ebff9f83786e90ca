"""When a session takes profiles, and what a call has to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_edgeai.measure.bench import LoadedRunnable, Runnable
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.measure.peaks import write_product
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.profiling import is_asked, work_of_call
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.workbench import Workbench

# One MatMul of opset 17 on two inputs of open shapes.
OPEN_SHAPES = bytes.fromhex(
    "08083a4f0a110a01610a016212017922064d61744d756c1201675a150a016112100a0e0801120a0a0312014e0a"
    "0312014d5a150a016212100a0e0801120a0a0312014e0a0312014d62090a017912040a02080142040a001011"
)
NOTHING = {"diagnose": False, "fix": False, "html": None, "search": None}


def bench(**settings: object) -> Workbench:
    """Return what is read of a workbench."""
    session = SimpleNamespace(settings=SimpleNamespace(**{**NOTHING, **settings}))
    return cast("Workbench", SimpleNamespace(session=session))


@pytest.mark.parametrize("setting", ["diagnose", "fix"])
@pytest.mark.parametrize("timed", [False, True])
def test_a_diagnosis_takes_it_whatever_gate_runs(setting: str, timed: bool) -> None:
    assert is_asked(bench(**{setting: True}), timed=timed)


@pytest.mark.parametrize(("setting", "value"), [("html", "page.html"), ("search", 20)])
def test_a_page_and_a_search_take_it_with_the_timings_alone(setting: str, value: object) -> None:
    assert is_asked(bench(**{setting: value}), timed=True)
    assert not is_asked(bench(**{setting: value}), timed=False)


def test_nobody_else_pays_for_it() -> None:
    assert not is_asked(bench(), timed=True)


def prepared(language: LanguagePlan | None = None, **facts: object) -> PreparedModel:
    """Return what is read of a prepared model."""
    model = SimpleNamespace(language=language, facts=SimpleNamespace(**facts))
    return cast("PreparedModel", model)


def loaded(path: Path, batch: int = 1) -> LoadedRunnable:
    """Return what is read of a loaded model of tensors."""
    model = SimpleNamespace(runnable=SimpleNamespace(path=path), samples_per_call=batch)
    return cast("LoadedRunnable", model)


class Decoder(LoadedLanguageRunnable):
    """A loaded language model whose cache for 64 tokens takes 6,400 bytes."""

    def __init__(self, path: Path) -> None:
        self.runnable = Runnable(LLAMACPP, Path("python"), path, RuntimeOptions())
        self.kv_cache_bytes = 6_400
        self.plan = PLAN


PLAN = LanguagePlan("ids.npy", blocks=2, context_tokens=64, prompt_tokens=16)


def test_the_work_of_a_call_is_that_of_its_file(tmp_path: Path) -> None:
    path = write_product(tmp_path / "p.onnx", quantized=False, rows=1, inner=32)
    found = work_of_call(prepared(), loaded(path))
    assert found.flops == 2 * 32 * 32
    assert found.moved_bytes == 4 * (32 * 32 + 32 + 32)


def test_a_batch_moves_the_weights_once(tmp_path: Path) -> None:
    path = write_product(tmp_path / "p.onnx", quantized=False, rows=1, inner=256)
    alone, batch = (work_of_call(prepared(), loaded(path, count)) for count in (1, 8))
    assert alone.flops is not None
    assert batch.flops == 8 * alone.flops
    assert alone.moved_bytes is not None
    assert batch.moved_bytes is not None
    assert alone.moved_bytes < batch.moved_bytes < 1.2 * alone.moved_bytes
    assert "times 8 samples" in batch.note


def test_a_file_of_another_format_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.mnn"
    path.write_bytes(b"MNN")
    found = work_of_call(prepared(), loaded(path))
    assert (found.flops, found.moved_bytes) == (None, None)
    assert found.note.startswith("the file does not tell the work of a call: ")


def test_a_token_reads_the_keys_and_values_of_the_prompt(tmp_path: Path) -> None:
    """A graph that does not tell the work of a token has it from the model it was made of."""
    path = tmp_path / "model.onnx"
    path.write_bytes(OPEN_SHAPES)
    facts: dict[str, Any] = {
        "flops_per_inference": 1_000,
        "bytes_per_inference": 4_000,
        "size_bytes": 5_000,
        "workload_note": "per token",
    }
    found = work_of_call(prepared(language=PLAN, **facts), Decoder(path))
    assert found.flops == 1_000
    assert found.moved_bytes == pytest.approx(0.8 * len(OPEN_SHAPES) + 1_600)
    assert "told of the model that it was made of" in found.note
    assert found.note.endswith("the keys and values of 16 tokens")
    facts["flops_per_inference"] = None
    assert work_of_call(prepared(language=PLAN, **facts), Decoder(path)).flops is None
