"""Errors on their way through the pipe: raised in the worker, raised again in the parent."""

from __future__ import annotations

import traceback

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import (
    EdgeAIError,
    FrameworkMissing,
    MeasurementError,
    ModelError,
    UserError,
    WorkerFailure,
)
from pytest_edgeai.worker.protocol import Failure


def to_failure(request_id: int, error: BaseException, missing: list[str]) -> Failure:
    """Describe ``error`` for the pipe.

    Args:
        request_id: the request that raised it.
        error: what was raised.
        missing: required distributions that the interpreter lacks; they explain an import error.
    """
    if isinstance(error, UserError):
        kind = "model" if isinstance(error, ModelError) else "user"
        return Failure(request_id, kind, error.what, error.where, error.allowed, error.advice)
    if isinstance(error, MeasurementError):
        return Failure(request_id, "measurement", str(error))
    if isinstance(error, MemoryError):
        return Failure(request_id, "memory", str(error))
    if isinstance(error, ImportError) and missing:
        return Failure(request_id, "missing", _last_line(error))
    return Failure(request_id, "exception", _last_line(error))


def needs_traceback(failure: Failure) -> bool:
    """Whether a failure is unexpected, so that its traceback belongs into the output."""
    return failure.kind in ("memory", "missing", "exception")


def to_error(
    failure: Failure,
    descriptor: FrameworkDescriptor,
    interpreter: str,
    step: str,
    output_tail: str,
) -> EdgeAIError:
    """Return the error that the parent raises for ``failure``."""
    match failure.kind:
        case "user" | "model":
            kind = ModelError if failure.kind == "model" else UserError
            return kind(
                failure.what,
                where=failure.where,
                allowed=failure.allowed,
                advice=failure.advice,
            )
        case "measurement":
            return MeasurementError(f"{descriptor.name} worker, {step}: {failure.what}")
        case "missing":
            return FrameworkMissing(
                descriptor.name,
                interpreter=interpreter,
                install=descriptor.install,
                detail=failure.what,
            )
        case "memory":
            what = "ran out of memory (MemoryError)"
            if failure.what:
                what = f"ran out of memory (MemoryError: {failure.what})"
        case _:
            what = failure.what
    return WorkerFailure(what, framework=descriptor.name, step=step, output_tail=output_tail)


def _last_line(error: BaseException) -> str:
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    # An exception may carry several lines; the first names its class and says the most.
    return " ".join(lines[0].split()) if lines else type(error).__name__
