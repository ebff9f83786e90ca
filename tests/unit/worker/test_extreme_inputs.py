"""Whether a model answers as before, as its worker sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError, ModelError
from pytest_edgeai.worker.extreme_inputs import ExtremeInputs

Feeds = dict[str, NDArray[Any]]
NORMAL = np.array([[1.0, 2.0]], np.float32)


class Model:
    """Answers by a function of its input and of how often it was called."""

    def __init__(self, answer: Callable[[NDArray[Any], int], dict[str, Any]]) -> None:
        self.calls = 0
        self._answer = answer

    def run(self, feeds: Any) -> dict[str, Any]:
        self.calls += 1
        return self._answer(feeds["x"], self.calls)


class Tokens:
    """Adds one to every token, and refuses those below zero."""

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        if (tokens < 0).any():
            raise ModelError("a token below 0", where="a file of this machine")
        return np.asarray(tokens[:, np.newaxis] + 1, np.float32)


def change_after(
    folder: Path, answer: Callable[[NDArray[Any], int], dict[str, Any]], tried: NDArray[Any]
) -> tuple[dict[str, Any], str]:
    """Return what an input came to, and how the reference changed by it."""
    np.save(folder / "normal.npy", NORMAL)
    np.save(folder / "tried.npy", tried)
    inputs = ExtremeInputs({"m": Model(answer)}, {})
    kept = inputs.keep_reference("m", {"x": str(folder / "normal.npy")})
    assert kept["seconds"] >= 0
    found = inputs.try_input("m", {"x": str(folder / "tried.npy")})
    return found, inputs.check_reference("m")["change"]


def test_a_healthy_answer_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    tried = np.array([[np.nan, np.inf]], np.float32)
    found, change = change_after(tmp_path, lambda x, n: {"y": x * 2}, tried)
    assert found == {"error": "", "nan": 1, "infinite": 1}
    assert change == ""
    found, change = change_after(tmp_path, lambda x, n: {"y": x * 2}, np.zeros((0, 2), np.float32))
    assert (found["error"], change) == ("", "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, n: {"y": x * (np.nan if n > 3 else 1)}, '2 of 2 elements of output "y" are NaN'),
        (lambda x, n: {"y": x + (0.001 if n > 3 else 0)}, 'output "y" is off by 0.001'),
        (lambda x, n: {"y": x * (np.inf if n > 3 else 1)}, 'output "y" is infinite'),
        (lambda x, n: {"y": x[:, : 1 if n > 3 else 2]}, 'output "y" was float32(1, 2)'),
        (lambda x, n: {"z" if n > 3 else "y": x}, "its outputs are z"),
        (lambda x, n: {"y": x.astype(np.int64) + (n > 3)}, "2 of 2 elements of output"),
        (lambda x, n: {"y": np.array(["b" if n > 3 else "a"])}, "1 of 1 elements of output"),
    ],
)
def test_a_changed_answer_is_put_into_words(
    tmp_path: Path, answer: Callable[[NDArray[Any], int], dict[str, Any]], words: str
) -> None:
    found, change = change_after(tmp_path, answer, NORMAL)
    assert found["error"] == ""
    assert words in change


def test_rounding_and_a_model_that_varies_by_itself_are_no_change(tmp_path: Path) -> None:
    rounding = change_after(tmp_path, lambda x, n: {"y": x * (1 + 1e-6 * n)}, NORMAL)
    varying = change_after(tmp_path, lambda x, n: {"y": x + 0.1 * (n % 2)}, NORMAL)
    nan_from_the_start = change_after(tmp_path, lambda x, n: {"y": x * np.nan}, NORMAL)
    assert (rounding[1], varying[1], nan_from_the_start[1]) == ("", "", "")


def test_refusals_are_one_line_without_the_place_of_a_file(tmp_path: Path) -> None:
    def refuse(x: NDArray[Any], calls: int) -> dict[str, Any]:
        if calls > 2:
            raise ValueError("one line\nand another")
        return {"y": x}

    found, change = change_after(tmp_path, refuse, NORMAL)
    assert found["error"] == "ValueError: one line"
    assert change == "it is refused (ValueError: one line)"
    np.save(tmp_path / "ids.npy", np.array([1, 2], np.int32))
    np.save(tmp_path / "negative.npy", np.array([1, -2], np.int32))
    inputs = ExtremeInputs({}, {"m": Tokens()})
    inputs.keep_reference("m", {"input_ids": str(tmp_path / "ids.npy")})
    found = inputs.try_input("m", {"input_ids": str(tmp_path / "negative.npy")})
    assert found["error"] == "ModelError: a token below 0"
    assert inputs.check_reference("m") == {"change": ""}


def test_a_model_that_is_not_loaded_is_a_mistake_of_the_caller() -> None:
    inputs = ExtremeInputs({}, {})
    with pytest.raises(MeasurementError, match="no model is loaded"):
        inputs.keep_reference("m", {})
    with pytest.raises(MeasurementError, match="no reference is kept"):
        inputs.check_reference("m")
