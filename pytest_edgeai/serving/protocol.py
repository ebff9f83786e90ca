"""Requests and answers of the Open Inference Protocol, version 2, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .runtimes import DATATYPES, Tensor

_SENT_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
"""Kind of an input's dtype to the kinds of numbers in JSON that fit it."""


class BadRequest(Exception):
    """A request that cannot be answered, with the HTTP status that says so."""

    def __init__(self, what: str, status: int = 400) -> None:
        """Say what is wrong, and as which status."""
        self.status = status
        super().__init__(what)


@dataclass(frozen=True)
class InferenceRequest:
    """A request of the protocol that fits the model.

    Attributes:
        feeds: input name to array.
        outputs: names of the outputs that are asked for; all of them where it names none.
        identity: its own id; ``None`` where it has none.
    """

    feeds: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    identity: str | None


def read_request(
    body: bytes, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> InferenceRequest:
    """Return what a request asks.

    Raises:
        BadRequest: names the input or output, and what the model takes or gives.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    known = [tensor.name for tensor in inputs]
    given = _named(content, "inputs")
    if sorted(given) != sorted(known):
        raise BadRequest(f"inputs {sorted(given)} were given; the model takes {sorted(known)}")
    answers = tuple(tensor.name for tensor in outputs)
    asked = _named(content, "outputs") if "outputs" in content else {}
    for name in asked:
        if name not in answers:
            raise BadRequest(f'output "{name}" is asked for; the model has {sorted(answers)}')
    identity = content.get("id")
    return InferenceRequest(
        {tensor.name: _array(tensor, given[tensor.name]) for tensor in inputs},
        tuple(asked) or answers,
        None if identity is None else str(identity),
    )


def _named(content: Any, key: str) -> dict[str, Mapping[str, Any]]:
    """Return the tensors under ``key`` by their names."""
    tensors = content.get(key) if isinstance(content, dict) else None
    if not isinstance(tensors, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in tensors
    ):
        raise BadRequest(
            f'no request of the Open Inference Protocol: "{key}" is a list of tensors with names'
        )
    named = {each["name"]: each for each in tensors}
    if len(named) != len(tensors):
        raise BadRequest(f'"{key}" names a tensor twice')
    return named


def _array(tensor: Tensor, given: Mapping[str, Any]) -> NDArray[Any]:
    where = f'input "{tensor.name}"'
    expected = tensor.metadata()
    if given.get("datatype") != expected["datatype"]:
        raise BadRequest(
            f"{where} has datatype {given.get('datatype')!r}; it takes {expected['datatype']}"
        )
    shape = given.get("shape")
    fits = (
        isinstance(shape, list)
        and len(shape) == len(tensor.shape)
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
        and all(axis in (None, n) for axis, n in zip(tensor.shape, shape, strict=True))
    )
    if not fits or not isinstance(shape, list):
        raise BadRequest(f"{where} has shape {shape!r}; it takes {expected['shape']}")
    array = _numbers(given.get("data"), tensor.dtype)
    if array is None:
        raise BadRequest(f"{where} has no data that is {expected['datatype']}")
    if array.size != math.prod(shape):
        raise BadRequest(f"{where} has {array.size} numbers, and its shape {shape} asks for others")
    return np.ascontiguousarray(array.reshape(shape))


def _numbers(data: Any, dtype: str) -> NDArray[Any] | None:
    """Return data as an array that holds exactly what was sent; ``None`` where none can."""
    try:
        sent = np.asarray(data)
        if dtype == "str":
            return sent.astype(object) if sent.dtype.kind == "U" else None
        if sent.size and sent.dtype.kind not in _SENT_KINDS[np.dtype(dtype).kind]:
            return None
        with np.errstate(over="ignore"):
            array = sent.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return None
    exact = array.dtype.kind == "f" or np.array_equal(array, sent)
    return array if exact and np.isfinite(array).all() else None


def render_outputs(bundle: Bundle, outputs: Mapping[str, Any], request: InferenceRequest) -> bytes:
    """Return an answer of the protocol, with the outputs that were asked for.

    Raises:
        BadRequest: an output holds NaN or Inf, which JSON cannot say; status 500.
    """
    tensors: list[dict[str, Any]] = []
    for name in request.outputs:
        array = np.asarray(outputs[name])
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadRequest(f'the model answered NaN or Inf in "{name}"', 500)
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        data = array.ravel().tolist()
        tensors.append(
            {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}
        )
    answer: dict[str, Any] = {"model_name": bundle.name, "model_version": bundle.version}
    if request.identity is not None:
        answer["id"] = request.identity
    return json.dumps({**answer, "outputs": tensors}).encode()
