"""Requests and answers of the Open Inference Protocol, version 2, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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


def read_feeds(body: bytes, inputs: tuple[Tensor, ...]) -> tuple[dict[str, Any], str | None]:
    """Return input name to array, and the request's own id.

    Raises:
        BadRequest: names the input and what it takes.
    """
    try:
        content = json.loads(body)
        given = {str(each["name"]): each for each in content["inputs"]}
        identity = content.get("id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"not a request of the Open Inference Protocol: {error!r}") from None
    known = [tensor.name for tensor in inputs]
    if sorted(given) != sorted(known):
        raise BadRequest(f"inputs {sorted(given)} were given; the model takes {sorted(known)}")
    feeds = {tensor.name: _array(tensor, given[tensor.name]) for tensor in inputs}
    return feeds, None if identity is None else str(identity)


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


def render_outputs(bundle: Bundle, outputs: Mapping[str, Any], identity: str | None) -> bytes:
    """Return an answer of the protocol.

    Raises:
        BadRequest: an output holds NaN or Inf, which JSON cannot say; status 500.
    """
    tensors: list[dict[str, Any]] = []
    for name, value in outputs.items():
        array = np.asarray(value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadRequest(f'the model answered NaN or Inf in "{name}"', 500)
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        data = array.ravel().tolist()
        tensors.append(
            {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}
        )
    answer: dict[str, Any] = {"model_name": bundle.name, "model_version": bundle.version}
    if identity is not None:
        answer["id"] = identity
    return json.dumps({**answer, "outputs": tensors}).encode()
