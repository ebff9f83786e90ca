"""Gate ``time_to_first_token`` of language models."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("time_to_first_token")
def test_time_to_first_token(edge_compare: EdgeCompare) -> None:
    """The candidate answers a prompt no more than a tenth later than the baseline.

    From an empty cache to the choice of the first token.
    """
    edge_compare("time_to_first_token")
