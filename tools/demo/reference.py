"""MeaForCausalLM: the checkpoint format read back and computed the plain way, one formula per line.

The PyTorch definition of a `mea` (kind "mea") or `llama` checkpoint: it shares no code with the
training model. Keys and values are projected to h' component heads, rotated, composed into h
virtual heads, attended.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rope(x, theta):
    """x [tokens, heads, d], token n at position n; half-split convention."""
    tokens, _, d = x.shape
    frequency = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class MeaForCausalLM:
    """A checkpoint directory as a function from token ids to logits, computed in `dtype`."""

    def __init__(self, directory, dtype=torch.float32):
        directory = Path(directory)
        self.config = json.loads((directory / "config.json").read_text())
        self.tensors = {
            name: tensor.to(dtype)
            for name, tensor in load_file(directory / "model.safetensors").items()
        }
        self.composition = self.config.get("head_composition")
        if self.composition and self.composition["kind"] != "mea":
            raise ValueError(f"head composition {self.composition['kind']!r} is not read here")

    def __call__(self, ids):
        """ids [tokens] -> logits [tokens, vocabulary]."""
        c, eps = self.config, self.config["rms_norm_eps"]
        x = self.tensors["model.embed_tokens.weight"][ids]
        for i in range(c["num_hidden_layers"]):
            w = self._layer(i)
            x = x + self._attention(rms_norm(x, w["input_layernorm.weight"], eps), w, i)
            x = x + self._feed_forward(rms_norm(x, w["post_attention_layernorm.weight"], eps), w)
        x = rms_norm(x, self.tensors["model.norm.weight"], eps)
        tied = c["tie_word_embeddings"]
        return x @ self.tensors["model.embed_tokens.weight" if tied else "lm_head.weight"].T

    def component_heads(self, layer):
        """(h'_K, h'_V): the heads of keys and of values that are projected, and would be cached."""
        h = self.config["num_key_value_heads"]
        if not self.composition:
            return h, h
        counts = (self.composition[f"num_component_{kind}_heads"] for kind in ("key", "value"))
        return tuple(n[layer] if isinstance(n, list) else n for n in counts)

    def cache_bytes_per_token(self, bytes_per_value=2):
        d = self.config["head_dim"]
        heads = sum(sum(self.component_heads(i)) for i in range(self.config["num_hidden_layers"]))
        return heads * d * bytes_per_value

    def _layer(self, i):
        prefix = f"model.layers.{i}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def _attention(self, x, w, layer):
        c = self.config
        tokens, d = len(x), c["head_dim"]
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        key_heads, value_heads = self.component_heads(layer)
        q = (x @ w["self_attn.q_proj.weight"].T).view(tokens, heads, d)
        k = (x @ w["self_attn.k_proj.weight"].T).view(tokens, key_heads, d)
        v = (x @ w["self_attn.v_proj.weight"].T).view(tokens, value_heads, d)
        q, k = rope(q, c["rope_theta"]), rope(k, c["rope_theta"])
        if "self_attn.k_hlc.weight" in w:  # W_lc^K [h'_K, h]; absent is the identity
            k = torch.einsum("ncd,ch->nhd", k, w["self_attn.k_hlc.weight"])
        if "self_attn.v_hlc.weight" in w:
            v = torch.einsum("ncd,ch->nhd", v, w["self_attn.v_hlc.weight"])
        group = heads // kv_heads  # query head i reads virtual head i // group
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / d**0.5
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        out = torch.einsum("hqk,khd->qhd", weights, v)
        if self.composition and self.composition["head_norm"] == "rms":  # weight [d], or [H*d]
            gain = w["self_attn.head_norm.weight"].view(-1, d)
            out = rms_norm(out, gain, self.composition["head_norm_eps"])
        return out.reshape(tokens, heads * d) @ w["self_attn.o_proj.weight"].T

    def _feed_forward(self, x, w):
        gate = torch.nn.functional.silu(x @ w["mlp.gate_proj.weight"].T)
        return (gate * (x @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
