"""Gate ``output_sanity``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("output_sanity")
def test_output_sanity(edge_compare: EdgeCompare) -> None:
    """Every answer is a number of the right shape and dtype, and no class is lost.

    All outputs of all evaluation samples are compared with the baseline's.
    """
    edge_compare("output_sanity")
