"""The whole model family in plain float64 PyTorch: the oracle that the engine is tested against.

Written from the papers and the checkpoint format alone. It shares no formula with the engine: virtual heads are
expanded in full (the einsum of arXiv 2601.19611), normalised, rotated and attended; there is no cache, no narrow form,
no folded weight and no stored scalar. Slow, short, and meant to be read.

    mea_reference.py DIR --prompt 1,2,3 --greedy 16    logits and greedy tokens of a checkpoint
    mea_reference.py --check DIR [DIR ...]             compares with Hugging Face transformers
"""

import argparse
import contextlib
import json
import math
import pathlib
from dataclasses import dataclass

import torch
from safetensors.torch import load_file

BASE_MODELS = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")


@dataclass
class Config:
    """config.json with its defaults resolved. Symbols as in the paper: h virtual KV heads, H query heads, d."""

    base: str  # one of BASE_MODELS
    vocab: int
    num_layers: int
    H: int
    h: int
    d: int
    norm_eps: float
    tied: bool
    rope: dict  # rope_type, rope_theta and the parameters of that type
    windows: list  # per layer, in tokens; 0 = no window
    component_keys: list  # h'_K per layer
    component_values: list  # h'_V per layer
    head_norm: bool
    head_norm_eps: float
    top_k: int  # experts per token, where a layer has experts
    renormalise: bool  # their weights

    @staticmethod
    def parse(c):
        base = c["base_model_type"] if c["model_type"] == "mea" else c["model_type"]
        assert base in BASE_MODELS, f"model_type {base}"
        num_layers, H = c["num_hidden_layers"], c["num_attention_heads"]
        h = c.get("num_key_value_heads") or H
        # transformers 5 writes rope_parameters; older checkpoints have rope_theta and rope_scaling.
        rope = c.get("rope_parameters") or {"rope_theta": c.get("rope_theta", 10000.0), **(c.get("rope_scaling") or {})}
        hlc = c.get("head_composition", {"kind": "mea"})
        assert hlc["kind"] == "mea", f"head composition {hlc['kind']}"

        def per_layer(value):
            return list(value) if isinstance(value, list) else [value] * num_layers

        return Config(
            base=base,
            vocab=c["vocab_size"],
            num_layers=num_layers,
            H=H,
            h=h,
            d=c.get("head_dim") or c["hidden_size"] // H,
            norm_eps=c["rms_norm_eps"],
            tied=c.get("tie_word_embeddings", False),
            rope={"rope_type": rope.get("type", "default"), "max_position_embeddings": c["max_position_embeddings"], **rope},
            windows=layer_windows(c, base, num_layers),
            component_keys=per_layer(hlc.get("num_component_key_heads", h)),
            component_values=per_layer(hlc.get("num_component_value_heads", h)),
            head_norm=hlc.get("head_norm", "none") == "rms",
            head_norm_eps=hlc.get("head_norm_eps", 1e-5),
            top_k=c.get("num_experts_per_tok", 2 if base == "mixtral" else 8),
            renormalise=base == "mixtral" or c.get("norm_topk_prob", False),
        )


def layer_windows(c, base, num_layers):
    """Mistral and Mixtral slide in every layer; Qwen only where asked, from layer max_window_layers up; Llama never."""
    window = c.get("sliding_window") or 0
    if base == "llama" or (base.startswith("qwen") and not c.get("use_sliding_window", False)):
        window = 0
    if base in ("mistral", "mixtral", "qwen3_moe"):
        return [window] * num_layers
    types = c.get("layer_types")
    if types is None:
        first = c.get("max_window_layers", 28)
        types = ["sliding_attention" if i >= first else "full_attention" for i in range(num_layers)]
    return [window if t == "sliding_attention" else 0 for t in types]


def load_checkpoint(directory):
    """The config and every tensor, widened to float64."""
    directory = pathlib.Path(directory)
    config = Config.parse(json.loads((directory / "config.json").read_text()))
    tensors = {}
    for shard in sorted(directory.glob("*.safetensors")):
        tensors.update({name: t.double() for name, t in load_file(shard).items()})
    return config, tensors


def rope_frequencies(config):
    """(inverse frequencies [d / 2], attention factor: what cos and sin are multiplied by)."""
    r, d = config.rope, config.d
    theta, kind = r["rope_theta"], r["rope_type"]
    plain = torch.tensor([theta ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    if kind == "default":
        return plain, 1.0
    factor = r["factor"]
    if kind == "linear":
        return plain / factor, 1.0
    context = r.get("original_max_position_embeddings") or r["max_position_embeddings"]
    if kind == "llama3":
        # Rotations within the old context: many rotations, frequency kept; few, divided by factor; between, a straight line.
        low, high = r["low_freq_factor"], r["high_freq_factor"]
        rotations = context * plain / (2 * math.pi)
        keep = ((rotations - low) / (high - low)).clamp(0, 1)
        return keep * plain + (1 - keep) * plain / factor, 1.0
    assert kind == "yarn", kind

    def index_of(rotations):  # the (fractional) frequency index that rotates this often within the old context
        return d * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    first, last = index_of(r.get("beta_fast") or 32), index_of(r.get("beta_slow") or 1)
    if r.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d - 1)
    if first == last:
        last += 0.001
    divide = ((torch.arange(d // 2, dtype=torch.float64) - first) / (last - first)).clamp(0, 1)

    def mscale(m):
        return 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention_factor = r.get("attention_factor")
    if attention_factor is None:
        m, m_all = r.get("mscale"), r.get("mscale_all_dim")
        attention_factor = mscale(m) / mscale(m_all) if m and m_all else mscale(1.0)
    return (1 - divide) * plain + divide * plain / factor, attention_factor


def rms_norm(x, weight, eps):
    return weight * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def rotate(x, inv_freq, attention_factor):
    """RoPE of x [N, heads, d], half-split convention: element i rotates with element i + d/2; token n stands at n."""
    angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None, None] * inv_freq
    cos, sin = attention_factor * angle.cos(), attention_factor * angle.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attention(config, tensors, layer, x):
    """MEA(X) = Concat(GroupNorm(C_1 .. C_H)) W^O of x [N, hidden]."""
    c, N = config, x.shape[0]
    w = {k.rsplit("self_attn.")[1]: t for k, t in tensors.items() if k.startswith(f"model.layers.{layer}.self_attn.")}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def compose(component, name):  # K_lc = einsum("n h' d, h' h -> n h d", K_comp, W_lc)
        return torch.einsum("ncd,ch->nhd", component, w[name]) if name in w else component

    q = linear("q_proj", x).view(N, c.H, c.d)
    k = compose(linear("k_proj", x).view(N, c.component_keys[layer], c.d), "k_hlc.weight")
    v = compose(linear("v_proj", x).view(N, c.component_values[layer], c.d), "v_hlc.weight")
    if "q_norm.weight" in w:
        q, k = rms_norm(q, w["q_norm.weight"], c.norm_eps), rms_norm(k, w["k_norm.weight"], c.norm_eps)
    inv_freq, attention_factor = rope_frequencies(c)
    q, k = rotate(q, inv_freq, attention_factor), rotate(k, inv_freq, attention_factor)
    k, v = (t.repeat_interleave(c.H // c.h, dim=1) for t in (k, v))  # query head i reads virtual head i // (H / h)

    i, j = torch.arange(N)[:, None], torch.arange(N)[None]
    visible = (j <= i) & ((i - j < c.windows[layer]) if c.windows[layer] else True)
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(c.d)
    heads = torch.einsum("hij,jhd->ihd", scores.masked_fill(~visible, -math.inf).softmax(-1), v)
    if c.head_norm:
        gain = w["head_norm.weight"]  # [d], shared by the heads, or [H * d]
        heads = rms_norm(heads, gain.view(-1, c.d), c.head_norm_eps)
    return linear("o_proj", heads.reshape(N, c.H * c.d))


def mlp(tensors, prefix, x):
    def linear(name, x):
        return x @ tensors[f"{prefix}{name}.weight"].T + tensors.get(f"{prefix}{name}.bias", 0.0)

    return linear("down_proj", torch.nn.functional.silu(linear("gate_proj", x)) * linear("up_proj", x))


def experts(config, tensors, prefix, x):
    """sum_e P_e expert_e(x) over the top_k experts of each row, P the softmax of the router, or of their logits alone."""
    mixtral = "block_sparse_moe" in prefix
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    logits = x @ tensors[prefix + "gate.weight"].T
    best, chosen = logits.topk(config.top_k)
    weights = (best if config.renormalise else logits).softmax(-1)
    out = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for j, e in enumerate(chosen[n].tolist()):
            w = {name: tensors[f"{prefix}experts.{e}.{name}.weight"] for name in (gate, up, down)}
            y = w[down] @ (torch.nn.functional.silu(w[gate] @ x[n]) * (w[up] @ x[n]))
            out[n] += weights[n, j if config.renormalise else e] * y
    return out


def feed_forward(config, tensors, layer_prefix, x):
    for prefix in (layer_prefix + "mlp.", layer_prefix + "block_sparse_moe."):
        if prefix + "gate.weight" in tensors:
            return experts(config, tensors, prefix, x)
    return mlp(tensors, layer_prefix + "mlp.", x)


@torch.no_grad()
def forward(config, tensors, ids, attention=attention):
    """Logits [N, vocab] at every position of ids."""
    c, embed = config, tensors["model.embed_tokens.weight"]
    x = embed[torch.tensor(ids)]
    for layer in range(c.num_layers):
        p = f"model.layers.{layer}."
        x = x + attention(c, tensors, layer, rms_norm(x, tensors[p + "input_layernorm.weight"], c.norm_eps))
        x = x + feed_forward(c, tensors, p, rms_norm(x, tensors[p + "post_attention_layernorm.weight"], c.norm_eps))
    x = rms_norm(x, tensors["model.norm.weight"], c.norm_eps)
    return x @ (embed if c.tied else tensors["lm_head.weight"]).T


def greedy(config, tensors, ids, num_tokens, attention=attention):
    """(tokens, the smallest gap between best and second-best logit on the way). No cache: everything is recomputed."""
    ids, margin = list(ids), math.inf
    first = len(ids)
    for _ in range(num_tokens):
        best = forward(config, tensors, ids, attention)[-1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[first:], margin


@contextlib.contextmanager
def float64_transformers():
    """transformers widens to float32 for norms, RoPE and softmax even in a float64 model: here "float32" is float64."""
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved


def check(directory):
    """Relative errors of the logits against transformers: (float32 inside, float64 throughout)."""
    import transformers

    config, tensors = load_checkpoint(directory)
    ids = [(7 * i * i + 3 * i + 1) % config.vocab for i in range(48)]
    ours = forward(config, tensors, ids)

    def error(model):
        with torch.no_grad():
            theirs = model.double().eval()(torch.tensor([ids])).logits[0].double()
        return ((ours - theirs).norm() / ours.norm()).item()

    model_class = transformers.AutoModelForCausalLM
    shipped = model_class.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager")
    state = {name: t.double() for name, t in shipped.state_dict().items()}  # experts as transformers keeps them
    as_shipped = error(shipped)
    with float64_transformers():
        hf_config = transformers.AutoConfig.from_pretrained(directory)
        model = model_class.from_config(hf_config, attn_implementation="eager", experts_implementation="eager")
        model.load_state_dict(state)
        return as_shipped, error(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="+")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--prompt", default="1,2,3")
    parser.add_argument("--greedy", type=int, default=16)
    args = parser.parse_args()
    for directory in args.directory:
        if args.check:
            as_shipped, throughout = check(directory)
            print(f"{pathlib.Path(directory).name:24} transformers float32 inside {as_shipped:.1e}, float64 throughout {throughout:.1e}")
            continue
        config, tensors = load_checkpoint(directory)
        ids = [int(t) for t in args.prompt.split(",")]
        print("logits", forward(config, tensors, ids)[-1].tolist())
        print("greedy", greedy(config, tensors, ids, args.greedy))


if __name__ == "__main__":
    main()
