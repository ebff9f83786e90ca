"""Gate ``kl_divergence`` of language models."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("kl_divergence")
def test_kl_divergence(edge_compare: EdgeCompare) -> None:
    """The candidate predicts as closely to the baseline as the manifest asks.

    Mean Kullback-Leibler divergence per token in nats; only a limit that somebody set makes this a
    gate.
    """
    edge_compare("kl_divergence")
