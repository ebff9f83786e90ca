"""Gate ``token_agreement`` of language models."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("token_agreement")
def test_token_agreement(edge_compare: EdgeCompare) -> None:
    """The candidate chooses the same token as the baseline as often as the manifest asks.

    A healthy four-bit model agrees on 85% to 90% of the tokens, so only a limit that somebody set
    makes this a gate.
    """
    edge_compare("token_agreement")
