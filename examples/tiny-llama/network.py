"""The network: a Llama whose tensors bear the names that transformers gives them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VOCABULARY = 768  # not INTERMEDIATE: tools that look for the head by its size would take an MLP
HIDDEN = 256
LAYERS = 3
HEADS = 4
KV_HEADS = 2
HEAD = HIDDEN // HEADS
INTERMEDIATE = 512
CONTEXT = 256
EPSILON = 1e-5
ROPE_THETA = 10_000.0
INITIAL_DEVIATION = 0.02


class RMSNorm(nn.Module):  # type: ignore[misc]  # mypy does not look into torch
    """Division by the root mean square, times a weight (https://arxiv.org/abs/1910.07467)."""

    def __init__(self) -> None:
        """Start with weights of 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalize the last axis."""
        scale = torch.rsqrt(hidden.square().mean(-1, keepdim=True) + EPSILON)
        normed: Tensor = hidden * scale * self.weight
        return normed


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer without bias."""
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):  # type: ignore[misc]
    """Causal attention whose query heads share keys and values in groups."""

    def __init__(self) -> None:
        """Build the four projections."""
        super().__init__()
        self.q_proj = linear(HIDDEN, HEADS * HEAD)
        self.k_proj = linear(HIDDEN, KV_HEADS * HEAD)
        self.v_proj = linear(HIDDEN, KV_HEADS * HEAD)
        self.o_proj = linear(HEADS * HEAD, HIDDEN)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Mix ``(batch, tokens, HIDDEN)`` over the tokens."""
        batch, tokens, _ = hidden.shape

        def split(projected: Tensor, heads: int) -> Tensor:
            return projected.view(batch, tokens, heads, HEAD).transpose(1, 2)

        def rotate(values: Tensor) -> Tensor:
            first, second = values.chunk(2, dim=-1)
            return values * cosine + torch.cat((-second, first), dim=-1) * sine

        shared = HEADS // KV_HEADS
        queries = rotate(split(self.q_proj(hidden), HEADS))
        keys = rotate(split(self.k_proj(hidden), KV_HEADS)).repeat_interleave(shared, dim=1)
        values = split(self.v_proj(hidden), KV_HEADS).repeat_interleave(shared, dim=1)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        output: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, HEADS * HEAD))
        return output


class MLP(nn.Module):  # type: ignore[misc]
    """SwiGLU (https://arxiv.org/abs/2002.05202)."""

    def __init__(self) -> None:
        """Build the three projections."""
        super().__init__()
        self.gate_proj = linear(HIDDEN, INTERMEDIATE)
        self.up_proj = linear(HIDDEN, INTERMEDIATE)
        self.down_proj = linear(INTERMEDIATE, HIDDEN)

    def forward(self, hidden: Tensor) -> Tensor:
        """Work on each token by itself."""
        gate = nn.functional.silu(self.gate_proj(hidden))
        output: Tensor = self.down_proj(gate * self.up_proj(hidden))
        return output


class Block(nn.Module):  # type: ignore[misc]
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self) -> None:
        """Build the parts, under the names that transformers gives them."""
        super().__init__()
        self.input_layernorm = RMSNorm()
        self.self_attn = Attention()
        self.post_attention_layernorm = RMSNorm()
        self.mlp = MLP()

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the residual stream after this block."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cosine, sine)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Llama(nn.Module):  # type: ignore[misc]
    """``LlamaForCausalLM`` of transformers, tensor by tensor."""

    def __init__(self) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.model.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.model.norm = RMSNorm()
        self.lm_head = linear(HIDDEN, VOCABULARY)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=INITIAL_DEVIATION)
        frequencies = ROPE_THETA ** (-torch.arange(HEAD // 2) / (HEAD // 2))
        angles = torch.outer(torch.arange(CONTEXT), frequencies).repeat(1, 2)
        self.cosine, self.sine = angles.cos(), angles.sin()

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``(batch, tokens, VOCABULARY)`` for ids ``(batch, tokens)``."""
        tokens = ids.shape[1]
        hidden = self.model.embed_tokens(ids)
        for block in self.model.layers:
            hidden = block(hidden, self.cosine[:tokens], self.sine[:tokens])
        logits: Tensor = self.lm_head(self.model.norm(hidden))
        return logits
