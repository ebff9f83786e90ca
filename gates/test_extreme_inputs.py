"""Gate ``extreme_inputs``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("extreme_inputs")
def test_extreme_inputs(edge_compare: EdgeCompare) -> None:
    """The candidate answers or cleanly refuses zeros, NaN, Inf, empty, oversize and wrong inputs.

    After each of them a reference sample is answered as before, in a worker of its own.
    """
    edge_compare("extreme_inputs")
