"""Knocking heads (arXiv 2510.23052) and interleaved heads (arXiv 2602.21371) in plain float64 PyTorch: the oracle of
what the engine makes of them, beside mea_reference.py, which has the rest of the model.

Written from the papers and the checkpoint format alone. KHA's matrices stand where the paper has them, unfolded. IHA's
pseudo heads are materialised: every token becomes P tokens of a sequence P times as long, with keys and values of
their own, attended by ordinary masked softmax attention.
"""

import math
from dataclasses import dataclass

import mea_reference
import torch
from mea_reference import rms_norm, rope_frequencies


@dataclass
class Composition:
    """head_composition of config.json."""

    knock: str  # KHA: "linear" or "mlp"; "" with IHA
    P: int  # IHA: pseudo heads for each head; 0 with KHA
    windows: list  # IHA: per layer, in tokens; 0 = an ordinary layer


def parse(raw):
    """(mea_reference.Config of the base model, Composition)"""
    hlc = raw["head_composition"]
    base = {k: v for k, v in raw.items() if k not in ("head_composition", "base_model_type")}
    config = mea_reference.Config.parse(base | {"model_type": raw["base_model_type"]})
    windows = hlc.get("layer_windows", [0])
    windows = [windows[i % len(windows)] for i in range(config.num_layers)]
    assert hlc["kind"] in ("kha", "iha"), hlc["kind"]
    return config, Composition(hlc.get("knock", ""), hlc.get("num_pseudo_heads", 0), windows)


def rotate(x, positions, config):
    """RoPE of x [N, heads, d] whose row n stands at positions[n]; half-split convention."""
    inv_freq, attention_factor = rope_frequencies(config)
    angle = positions.double()[:, None, None] * inv_freq
    cos, sin = attention_factor * angle.cos(), attention_factor * angle.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def softmax_attention(q, k, v, window):
    """Causal attention of [N, heads, d] over itself; key j is visible to query i when 0 <= i - j < window (0: no window)."""
    i, j = torch.arange(q.shape[0])[:, None], torch.arange(q.shape[0])[None]
    visible = (j <= i) & ((i - j < window) if window else True)
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("hij,jhd->ihd", scores.masked_fill(~visible, -math.inf).softmax(-1), v)


def interleave(x, alpha):
    """Pseudo tokens of x [N, h, d]: pseudo head p of head j, sum_m alpha[m, j, p] x_m, in row n * P + p: [N * P, h, d]."""
    pseudo = torch.einsum("nmd,mjp->npjd", x, alpha)
    return pseudo.reshape(-1, *x.shape[1:])


def iha(q, k, v, w, P, window, config):
    """[N, h, d]"""
    N, h, d = q.shape
    positions = torch.arange(N * P)
    q = rotate(interleave(q, w["iha_q"]), positions, config)
    k = rotate(interleave(k, w["iha_k"]), positions, config)
    heads = softmax_attention(q, k, interleave(v, w["iha_v"]), window * P)
    heads = heads.view(N, P, h, d).transpose(1, 2).reshape(N, h * P, d)  # (j, p)
    return torch.einsum("ik,nkd->nid", w["iha_collapse.weight"], heads)


def attention_of(composition):
    """A function that mea_reference.forward calls for every layer."""

    def attention(config, tensors, layer, x):
        c, N = config, x.shape[0]
        prefix = f"model.layers.{layer}.self_attn."
        w = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        def linear(name, x):
            return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

        q, k, v = linear("q_proj", x).view(N, c.H, c.d), linear("k_proj", x).view(N, c.h, c.d), linear("v_proj", x).view(N, c.h, c.d)
        if composition.knock == "linear":
            q, k, v = linear("knock_q", q), linear("knock_k", k), linear("knock_v", v)
        if composition.knock == "mlp":
            v = linear("knock_v_down", 2 * linear("knock_v_up", v) * torch.sigmoid(linear("knock_v_gate", v)))
        if composition.windows[layer]:
            heads = iha(q, k, v, w, composition.P, composition.windows[layer], c)
            return linear("o_proj", heads.reshape(N, c.H * c.d))
        if "q_norm.weight" in w:
            q, k = rms_norm(q, w["q_norm.weight"], c.norm_eps), rms_norm(k, w["k_norm.weight"], c.norm_eps)
        positions = torch.arange(N)
        q, k = rotate(q, positions, c), rotate(k, positions, c)
        k, v = (t.repeat_interleave(c.H // c.h, dim=1) for t in (k, v))
        heads = softmax_attention(q, k, v, c.windows[layer])
        return linear("o_proj", heads.reshape(N, c.H * c.d))

    return attention


def forward(raw, tensors, ids):
    """Logits [N, vocab] at every position of ids; `raw` is config.json."""
    config, composition = parse(raw)
    return mea_reference.forward(config, tensors, ids, attention_of(composition))


def greedy(raw, tensors, ids, num_tokens):
    config, composition = parse(raw)
    return mea_reference.greedy(config, tensors, ids, num_tokens, attention_of(composition))
