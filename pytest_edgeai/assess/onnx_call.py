"""One ONNX operator with what is known of its inputs, and what every shape rule shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pytest_edgeai.assess.onnx_values import Attributes, Number

Shape: TypeAlias = tuple[int, ...]
Outputs: TypeAlias = list[Shape | None]

# No model has tensors of more axes or elements along one; a crafted one could add an axis, or
# multiply an extent, with every operator.
MOST_AXES = 64
LARGEST_EXTENT = 1 << 62


class UnknownShape(Exception):
    """A shape cannot be known from the file; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator with what is known of its inputs.

    Attributes:
        operator: operator type.
        attributes: its attributes.
        shapes: shape of each input; ``None`` where it is unknown or left out.
        values: elements of each input that is a small constant, else ``None``.
        outputs: number of outputs.
        opset: version of the default operator set.
    """

    operator: str
    attributes: Attributes
    shapes: Sequence[Shape | None]
    values: Sequence[tuple[Number, ...] | None]
    outputs: int
    opset: int

    def shape(self, position: int) -> Shape:
        """Return the shape of an input, or raise ``UnknownShape``."""
        found = self.shapes[position] if position < len(self.shapes) else None
        if found is None:
            raise UnknownShape(f"input {position} of {self.operator} has no known shape")
        return found

    def integers(self, position: int) -> tuple[int, ...] | None:
        """Return the elements of a constant input as integers, ``None`` where it is none."""
        found = self.values[position] if position < len(self.values) else None
        return None if found is None else tuple(int(each) for each in found)

    def given(self, name: str, position: int) -> tuple[int, ...] | None:
        """Return what older operator sets give as attribute and newer ones as constant input."""
        found = self.attributes.integers(name)
        if found is None and position < len(self.shapes):
            found = self.integers(position)
            if found is None and self.shapes[position] is not None:
                raise UnknownShape(f"{name} of {self.operator} is no constant")
        return found


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to, as NumPy does.

    Raises:
        UnknownShape: if they do not.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, rank - len(shape)):
            if result[axis] == 1:
                result[axis] = extent
            elif extent not in (1, result[axis]):
                raise UnknownShape("the shapes do not broadcast")
    return tuple(result)


def axis_in(axis: int, rank: int) -> int:
    """Return a position from 0 for an axis that may count from the end.

    Raises:
        UnknownShape: if it is out of range.
    """
    if not -rank <= axis < rank:
        raise UnknownShape("an axis is out of range")
    return axis % rank
