"""Whether the weights of a checkpoint are those of the network that its config.json describes."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.checkpoint import Checkpoint
from pytest_edgeai.optimize.frameworks.gguf_families import Network, Placement

# Tables that some exporters store and that follow from the configuration.
_DERIVED = ("rotary_emb.inv_freq", "attn.bias", "masked_bias", "rotary_emb.cos_cached")


def check_tensors(
    checkpoint: Checkpoint, network: Network, planned: Sequence[Placement], called: str
) -> None:
    """Make sure that the weights are those of a network, with nothing missing and nothing left.

    Args:
        checkpoint: the stored tensors.
        network: what config.json describes.
        planned: every tensor that the network takes, with its shape.
        called: how an error calls the network.

    Raises:
        ModelError: a tensor is missing, of another shape, or has no place.
    """
    where = str(checkpoint.path)
    for placement in planned:
        found = checkpoint.tensors.get(placement.source)
        if found is None:
            raise ModelError(
                f"the tensor {placement.source} is missing",
                where=where,
                advice="Download the whole model, or export it again with save_pretrained",
            )
        if found.shape != placement.shape:
            raise ModelError(
                f"the tensor {placement.source} has the shape {list(found.shape)}, and config.json "
                f"says {list(placement.shape)}",
                where=where,
                advice="The configuration and the weights are of different models",
            )
    known = {placement.source for placement in planned}
    if network.tied:
        known.add("lm_head.weight")
    left = [
        name for name in checkpoint.tensors if name not in known and not name.endswith(_DERIVED)
    ]
    if left:
        raise ModelError(
            f"{len(left)} tensors have no place in {called}, the first is {left[0][:64]}",
            where=where,
            advice="Check architectures in config.json",
        )
