"""Gate ``no_less_accurate``, which exists with ``--edge-against``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("no_less_accurate")
def test_no_less_accurate(edge_compare: EdgeCompare) -> None:
    """The candidate keeps more than 98% of the metric of the candidate promoted before.

    Both answer the same samples in this session.
    """
    edge_compare("no_less_accurate")
