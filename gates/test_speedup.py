"""Gate ``speedup``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("speedup")
def test_speedup(edge_compare: EdgeCompare) -> None:
    """The candidate answers at least twice as fast as the baseline.

    Both run in turns; wall and CPU time must agree before there is a verdict.
    """
    edge_compare("speedup")
