"""Gate ``framework_agreement``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("framework_agreement")
def test_framework_agreement(edge_compare: EdgeCompare) -> None:
    """The unoptimized model answers the same in every other framework that takes it."""
    edge_compare("framework_agreement")
