"""What ONNX Runtime GenAI is told of a model; the runtime itself is not imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks import genai
from pytest_edgeai.records import RuntimeOptions

MODEL: dict[str, Any] = {
    "context_length": 64,
    "vocab_size": 9,
    "eos_token_id": [7, 3],
    "pad_token_id": 3,
    "decoder": {
        "filename": "model.onnx",
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "head_size": 4,
    },
}


def test_no_token_is_padding_and_one_ends_the_text() -> None:
    """Otherwise the runtime masks tokens of the text, and overwrites logits."""
    changed = genai._overlay(MODEL, RuntimeOptions(threads=2))["model"]
    assert changed["pad_token_id"] == -1
    assert changed["eos_token_id"] == 3
    assert changed["decoder"]["session_options"]["intra_op_num_threads"] == 2
    assert genai._end_tokens(MODEL) == {3, 7}
    assert genai._end_tokens({"eos_token_id": 5}) == {5}
    assert genai._end_tokens({}) == frozenset()


def test_hints_are_session_options_and_threads_may_be_left_open() -> None:
    hints = {"memory_mapping": "on", "session.force_spinning_stop": "1"}
    changed = genai._overlay({}, RuntimeOptions(threads=0, hints=hints))["model"]
    assert changed["decoder"]["session_options"] == {
        "log_severity_level": 3,
        "inter_op_num_threads": 1,
        "session.force_spinning_stop": "1",
    }
    assert "eos_token_id" not in changed
    with pytest.raises(UserError, match='no device "CUDA"'):
        genai._overlay(MODEL, RuntimeOptions(device="CUDA"))


def test_the_configuration_that_is_read(tmp_path: Path) -> None:
    def read(text: str) -> Any:
        (tmp_path / genai.CONFIG).write_text(text, encoding="utf-8")
        return genai._read_config(tmp_path, "there")

    assert read(json.dumps({"model": MODEL})) == MODEL
    for text in ("", "[]", "{}", '{"model": 3}', '{"model": {"decoder": []}}'):
        with pytest.raises(ModelError) as refused:
            read(text)
        assert "damaged" in str(refused.value) or "lacks" in str(refused.value)
        assert "\n" not in str(refused.value)
    (tmp_path / genai.CONFIG).unlink()
    with pytest.raises(ModelError, match=r"there: there is no genai_config\.json"):
        genai._read_config(tmp_path, "there")


def test_the_null_decoder_is_one_table() -> None:
    onnx = pytest.importorskip("onnx", reason='run: pip install "pytest-edgeai[onnx]"')
    model = onnx.ModelProto.FromString(genai._NULL_DECODER)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Gather"]
    (table,) = model.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(table), np.eye(2, dtype=np.float32))
    assert [value.name for value in model.graph.input] == ["input_ids"]
    assert [value.name for value in model.graph.output] == ["logits"]
