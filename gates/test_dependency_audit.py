"""Gate ``dependency_audit``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("dependency_audit")
def test_dependency_audit(edge_compare: EdgeCompare) -> None:
    """No distribution that runs the candidate has a known vulnerability.

    Without a source of advisories, or the tool that reads it, it is not certified.
    """
    edge_compare("dependency_audit")
