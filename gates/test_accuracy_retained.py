"""Gate ``accuracy_retained``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("accuracy_retained")
def test_accuracy_retained(edge_compare: EdgeCompare) -> None:
    """The candidate keeps more than 95% of the baseline's metric, on the same samples.

    A paired score test decides: a pass needs the lower bound above the threshold.
    """
    edge_compare("accuracy_retained")
