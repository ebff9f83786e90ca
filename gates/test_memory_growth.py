"""Gate ``memory_growth``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("memory_growth")
def test_memory_growth(edge_compare: EdgeCompare) -> None:
    """The candidate's process holds no more memory the longer it runs.

    It is read between turns of many calls, beside the baseline's.
    """
    edge_compare("memory_growth")
