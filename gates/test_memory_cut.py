"""Gate ``memory_cut``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("memory_cut")
def test_memory_cut(edge_compare: EdgeCompare) -> None:
    """The candidate takes at most half of the baseline's memory.

    Fresh processes, several repeats; the worst case decides.
    """
    edge_compare("memory_cut")
