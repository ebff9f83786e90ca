"""The arrays that divide evaluation data into slices: read, checked and kept from the model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, did_you_mean

SLICES = "slices"
"""The array that divides the samples where the manifest names no other."""

ALLOWED = "one slice per sample, integers, booleans or strings that are not empty"


def take_slices(
    raw: dict[str, NDArray[Any]],
    inputs: Collection[str],
    names: tuple[str, ...] | None,
    where: str,
    *,
    needed: bool,
) -> dict[str, NDArray[Any]]:
    """Take the arrays that divide the samples out of ``raw``.

    Args:
        raw: all arrays of the data; what is taken is removed from it.
        inputs: names of the model's inputs, which never divide.
        names: the arrays to take; ``None``: `SLICES`, if it is there and no input.
        where: the manifest's key, for errors.
        needed: whether each of ``names`` must be there.

    Returns:
        array name to the slice of each sample, shape ``(samples,)``: integers or strings, where a
        mask of booleans divides into ``true`` and ``false``.

    Raises:
        ModelError: one is missing, is an input, or holds neither names, whole numbers nor booleans.
    """
    taken: dict[str, NDArray[Any]] = {}
    for name in names or (SLICES,):
        if name in inputs:
            if names is None:
                continue
            raise ModelError(
                f'array "{name}" is an input of the model',
                where=where,
                allowed="slices are arrays beside the inputs",
            )
        if name not in raw:
            if names is not None and needed:
                others = [other for other in raw if other not in inputs]
                raise ModelError(
                    f'no array "{name}"',
                    where=where,
                    allowed="one array per name of slices",
                    advice=did_you_mean(name, others),
                )
            continue
        array = raw.pop(name)
        fault = ""
        if array.ndim != 1 or array.dtype.kind not in "biuUT":
            fault = f"is {array.dtype} of shape {array.shape}"
        elif array.dtype.kind in "UT" and not np.strings.str_len(array).all():
            fault = "has an empty name of a slice"
        if fault:
            raise ModelError(f'array "{name}" {fault}', where=where, allowed=ALLOWED)
        taken[name] = np.where(array, "true", "false") if array.dtype.kind == "b" else array
    return taken
