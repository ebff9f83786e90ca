"""Gate ``prefill`` of language models."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("prefill")
def test_prefill(edge_compare: EdgeCompare) -> None:
    """The candidate reads a text no more than a tenth slower than the baseline.

    A whole block goes into an empty cache. Quantized weights hardly speed this up on a CPU, so the
    gate asks that it gets no worse.
    """
    edge_compare("prefill")
