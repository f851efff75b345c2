"""The model as it is trained: fused attention, heads composed in the weights, float32.

`demo.reference` is the plain forward that reads the exported checkpoint back; this one is only for
training.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes shared by the three models; only the component heads and the head norm differ."""

    vocabulary: int
    hidden: int = 192
    layers: int = 4
    heads: int = 8
    head_dim: int = 32
    feed_forward: int = 512
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    component_heads: int = 8  # h'_K = h'_V
    composed: bool = False  # HLC and head norm (mea); False is the plain twin (llama)


MODELS = {  # name -> (component heads, composed)
    "mha": (8, False),
    "mea-full": (8, True),
    "mea-half": (4, True),
}


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def one_hot_composition(components, heads):
    """W_lc near the identity: head j starts as component j mod h', with a little of the others."""
    hlc = 0.02 * torch.randn(components, heads)
    for head in range(heads):
        hlc[head % components, head] += 1
    return nn.Parameter(hlc)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = s = shape
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.component_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.component_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        if s.composed:
            self.k_hlc = one_hot_composition(s.component_heads, s.heads)
            self.v_hlc = one_hot_composition(s.component_heads, s.heads)
            self.head_norm = RmsNorm(s.head_dim, s.norm_eps)

    def _virtual(self, projection, hlc):
        """[h*d, hidden]: composing the weights once a step costs less than every token."""
        component = projection.weight.view(self.shape.component_heads, -1)
        return (hlc.T @ component).view(-1, self.shape.hidden)

    def forward(self, x, cos, sin, mask):
        s, (rows, tokens, _) = self.shape, x.shape
        wk, wv = self.k_proj.weight, self.v_proj.weight
        if s.composed:
            wk = self._virtual(self.k_proj, self.k_hlc)
            wv = self._virtual(self.v_proj, self.v_hlc)
        qkv = F.linear(x, torch.cat([self.q_proj.weight, wk, wv]))
        q, k, v = qkv.view(rows, tokens, 3, s.heads, s.head_dim).permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        out = out.transpose(1, 2)
        if s.composed:
            out = self.head_norm(out)
        return self.o_proj(out.reshape(rows, tokens, -1))


def rope_tables(shape, dtype=torch.float32):
    """cos and sin, [context, head_dim / 2]."""
    half = torch.arange(0, shape.head_dim, 2, dtype=dtype) / shape.head_dim
    angle = torch.arange(shape.context, dtype=dtype)[:, None] * shape.rope_theta**-half
    return angle.cos(), angle.sin()


def _rotate(x, cos, sin):
    """RoPE, half-split convention."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _same_document(ids, document_end):
    """[rows, 1, tokens, tokens], added to logits: 0 within a document, not ahead; else -inf."""
    document = (ids == document_end).cumsum(1)
    visible = (document[:, :, None] == document[:, None, :]).tril()
    return torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))[:, None]


class FeedForward(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Names follow Hugging Face's Llama, so that the state dict is the checkpoint but for its
    'model.' prefix.
    """

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RmsNorm(shape.hidden, shape.norm_eps)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self):
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        for name, weight in self.named_parameters():
            if name.endswith("_proj.weight"):
                gain = self._gain(name)
                nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)
        self._look_back()
        if not self.shape.composed:
            self._find_alike()

    def _gain(self, name):
        """Outputs of diffuse attention are small, and no head norm scales the twin's up."""
        if name.endswith("o_proj.weight"):
            return 0.1 if self.shape.composed else 0.3
        return 0.1 if name.endswith("down_proj.weight") else 0.7

    @torch.no_grad()
    def _look_back(self, pairs=4, constant=0.5, gain=0.7):
        """Head j of the first layer starts by attending j tokens back.

        Recall is matching on top of looking a few tokens back, and waiting for both to appear by
        chance is what makes it slow to learn. Feature 0 is the same for all tokens; queries and
        keys read it into the fastest `pairs` of RoPE's frequencies, the queries rotated by their
        offset.
        """
        s, first = self.shape, self.layers[0].self_attn
        self.embed_tokens.weight[:, 0] = constant
        keys = first.k_proj.weight.view(s.component_heads, s.head_dim, s.hidden)
        queries = first.q_proj.weight.view(s.heads, s.head_dim, s.hidden)
        for pair in range(pairs):
            frequency = s.rope_theta ** (-2 * pair / s.head_dim)
            keys[:, pair, 0], keys[:, pair + s.head_dim // 2, 0] = gain, 0.0
            for head in range(s.heads):
                angle = head * frequency
                queries[head, pair, 0] = gain * math.cos(angle)
                queries[head, pair + s.head_dim // 2, 0] = -gain * math.sin(angle)

    @torch.no_grad()
    def _find_alike(self, gain=0.7):
        """Heads of the second layer start by attending where the last few tokens were alike.

        All heads of the first layer write what they see into one subspace; the second layer's
        queries and keys read it through the same matrix, into the slow half of RoPE's frequencies,
        where position matters little. Only the twin starts so: without it, it had not found recall
        in 500 steps; with it, in 200. `mea-half` found it in 300 steps without.
        """
        s, (first, second) = self.shape, (layer.self_attn for layer in self.layers[:2])
        subspace = nn.init.orthogonal_(torch.empty(s.head_dim, s.hidden - 1))
        subspace = F.pad(subspace, (1, 0))  # nothing of feature 0, which is the same for all tokens
        first.v_proj.weight.copy_(subspace.repeat(s.heads, 1))
        first.o_proj.weight.copy_(0.1 * subspace.T.repeat(1, s.heads))
        half, quarter = s.head_dim // 2, s.head_dim // 4
        for slow in (slice(quarter, half), slice(half + quarter, s.head_dim)):
            mix = torch.randn(s.heads, quarter, s.head_dim) * gain * s.head_dim**-0.5
            second.k_proj.weight.view(s.heads, s.head_dim, s.hidden)[:, slow] = mix @ subspace
            second.q_proj.weight.view(s.heads, s.head_dim, s.hidden)[:, slow] = mix @ subspace

    def forward(self, ids, document_end=None):
        """ids [rows, tokens] -> logits [rows, tokens, vocabulary]; the output projection is the
        embedding.

        With `document_end`, the token that opens each document, a document sees itself alone.
        """
        mask = None if document_end is None else _same_document(ids, document_end)
        x = self.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return F.linear(self.norm(x), self.embed_tokens.weight)
