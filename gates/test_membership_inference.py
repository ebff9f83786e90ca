"""Gate ``membership_inference``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("membership_inference")
def test_membership_inference(edge_compare: EdgeCompare) -> None:
    """The candidate gives away its training samples no more than the baseline does.

    Judged is the area under the ROC curve of attacks by loss and by modified entropy.
    """
    edge_compare("membership_inference")
