"""An error raised in a worker is the same error in the parent."""

from __future__ import annotations

import pytest

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import (
    EdgeAIError,
    FrameworkMissing,
    MeasurementError,
    ModelError,
    UserError,
    WorkerFailure,
)
from pytest_edgeai.worker.failures import needs_traceback, to_error, to_failure
from pytest_edgeai.worker.protocol import HEADER, Failure, decode, encode

FRAMEWORK = FrameworkDescriptor("name", "a:B", "pip install name", ("name",), (), {})


def cross(error: BaseException, missing: list[str] | None = None) -> tuple[Failure, EdgeAIError]:
    failure = decode(encode(to_failure(3, error, missing or []))[HEADER.size :])
    assert isinstance(failure, Failure)
    return failure, to_error(failure, FRAMEWORK, "/bin/python", "load", "tail")


@pytest.mark.parametrize("kind", [UserError, ModelError])
def test_user_errors_keep_their_parts(kind: type[UserError]) -> None:
    error = kind("what", where="where", allowed="allowed", advice="advice")
    failure, raised = cross(error)
    assert type(raised) is kind
    assert vars(raised) == vars(error)
    assert str(raised) == str(error)
    assert not needs_traceback(failure)


def test_measurement_error() -> None:
    failure, raised = cross(MeasurementError("not permitted"))
    assert type(raised) is MeasurementError
    assert str(raised) == "name worker, load: not permitted"
    assert not needs_traceback(failure)


def test_import_error_is_missing_only_where_a_distribution_is() -> None:
    failure, raised = cross(ModuleNotFoundError("No module named 'name'"), ["name"])
    assert type(raised) is FrameworkMissing
    assert "run: pip install name (ModuleNotFoundError: No module" in str(raised)
    assert needs_traceback(failure)
    _, raised = cross(ModuleNotFoundError("No module named 'name'"))
    assert type(raised) is WorkerFailure


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError("key"), "KeyError: 'key'"),
        (RuntimeError(), "RuntimeError"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "ran out of memory (MemoryError)"),
        (MemoryError("of 3 GiB"), "ran out of memory (MemoryError: of 3 GiB)"),
    ],
)
def test_other_errors_are_worker_failures(error: BaseException, what: str) -> None:
    failure, raised = cross(error)
    assert isinstance(raised, WorkerFailure)
    assert raised.what == what
    assert raised.step == "load"
    assert raised.output_tail == "tail"
    assert needs_traceback(failure)
