"""Gate ``slice_retained``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("slice_retained")
def test_slice_retained(edge_compare: EdgeCompare) -> None:
    """No class and no slice of the data loses half or more of the baseline's recall on it.

    Paired score tests decide, one per class and slice; small ones are judged together.
    """
    edge_compare("slice_retained")
