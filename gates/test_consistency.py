"""Gate ``consistency``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("consistency")
def test_consistency(edge_compare: EdgeCompare) -> None:
    """The same input gives the same output across repeats, batches, threads and a reload.

    What rounding explains is no fault: the baseline's own variation, and the error of quantizing.
    """
    edge_compare("consistency")
