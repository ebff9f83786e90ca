"""Gate ``bundle_privacy``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("bundle_privacy")
def test_bundle_privacy(edge_compare: EdgeCompare) -> None:
    """No file of the candidate holds a sample of the data, or names a path of this machine."""
    edge_compare("bundle_privacy")
