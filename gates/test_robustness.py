"""Gate ``robustness``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("robustness")
def test_robustness(edge_compare: EdgeCompare) -> None:
    """The candidate keeps more than 90% of the baseline's metric under every fitting corruption.

    Both see the same corrupted samples; the worst corruption decides.
    """
    edge_compare("robustness")
