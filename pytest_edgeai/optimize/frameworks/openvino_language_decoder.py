"""What the graph of a stateful decoder looks like, and the one change that is made to it.

Source: optimum-intel's export (inputs, variables), and the transformation "gather before matmul" of
openvino-genai (https://github.com/openvinotoolkit/openvino.genai).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.openvino_language_graph import BEAMS, IDS, MASK, POSITIONS

ROWS = "sampled_tokens_indices"
"""Input that is added while loading: positions to compute logits of; the name is OpenVINO's."""

_TAKEN = frozenset({IDS, MASK, POSITIONS, BEAMS})
# What may stand between the output layer's product and the logits.
_AFTER_PRODUCT = frozenset({"Add", "Convert", "Divide", "Multiply", "Reshape"})


def last_extent(port: Any, where: str) -> int:
    """Return the columns of the logits, whose shape is ``(batch, rows, vocabulary)``.

    Raises:
        ModelError: the output is of another shape.
    """
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 3 or shape[2].is_dynamic:
        raise ModelError(f"the output is of shape {shape}", where=where, allowed="[?,?,vocabulary]")
    return int(shape[2].get_length())


def input_names(model: openvino.Model, where: str) -> frozenset[str]:
    """Return the inputs of a language model with a cache.

    Raises:
        ModelError: it has others, or no cache.
    """
    names = frozenset(port.get_any_name() for port in model.inputs)
    unknown = ", ".join(sorted(names - _TAKEN))
    if unknown or IDS not in names or not model.get_variables():
        what = f"has the inputs {unknown}" if unknown else "keeps no cache of its own"
        raise ModelError(
            f"the model {what}",
            where=where,
            allowed=f"a stateful decoder of {', '.join(sorted(_TAKEN))}",
            advice="Make it with the schemes of openvino, or with optimum-cli export openvino",
        )
    return names


def compute_chosen_rows(model: openvino.Model, where: str) -> None:
    """Give the model an input of positions, and let its output layer compute those alone.

    openvino-genai changes a graph like this when it loads one: filling a cache needs one row of
    logits, which for a large vocabulary are much of the work.

    Raises:
        ModelError: the logits do not come out of an output layer.
    """
    node = model.output(0).get_node()
    while node.get_type_name() in ("Result", *_AFTER_PRODUCT):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        raise ModelError(
            f"the logits come out of {node.get_type_name()}, not of an output layer", where=where
        )
    rows = opset13.parameter([-1], np.int64, name=ROWS)
    rows.output(0).get_tensor().set_names({ROWS})
    chosen = opset13.gather(node.input_value(0), rows, np.int64(1))
    node.input(0).replace_source_output(chosen.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()


def cached_elements(model: openvino.Model) -> int | None:
    """Return the elements of keys and values per token; ``None`` where a shape does not say."""
    total = 0
    for variable in model.get_variables():
        shape = variable.info.data_shape
        if shape.rank.is_dynamic or len(shape) != 4:
            return None
        fixed = [axis.get_length() for axis in shape if axis.is_static]
        # Batch and tokens vary, heads and their width do not.
        if len(fixed) != 2:
            return None
        total += fixed[0] * fixed[1]
    return total
