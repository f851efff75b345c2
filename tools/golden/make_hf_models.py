"""Writes tests/golden/hf: tiny random checkpoints of Hugging Face transformers, and what transformers makes of them.

    make_hf_models.py [--out tests/golden/hf]

Each model is drawn from a fixed torch seed and saved by save_pretrained; golden.json holds, per model, a prompt, the
logits of its last position and 64 greedy tokens, both computed by transformers from the saved files: in float32, and
for the BF16 checkpoint in float32 from the BF16 weights. Seeds whose greedy path is degenerate or passes too near to a
tie are skipped (the seed used is recorded).
"""

import argparse
import base64
import json
import logging
import pathlib
import shutil

import torch
import transformers

NUM_GREEDY = 64
MIN_MARGIN = 5e-3  # best minus second-best logit, at every step
MIN_DISTINCT = 20  # different tokens among the greedy ones

COMMON = dict(
    vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=256, bos_token_id=None, eos_token_id=None, pad_token_id=None, initializer_range=0.3,
    rms_norm_eps=1e-5,
)  # fmt: skip


def rope(kind, theta=10000.0, **parameters):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **parameters))


LLAMA3 = rope("llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=64)
LLAMA, MISTRAL, QWEN2, QWEN3 = "Llama", "Mistral", "Qwen2", "Qwen3"
MIXTRAL, QWEN3_MOE = "Mixtral", "Qwen3Moe"
MODELS = {
    # name: (family, config beyond COMMON, length of the prompt, arguments of save_pretrained, dtype)
    "llama": (LLAMA, dict(num_hidden_layers=3), 13, {}, torch.float32),
    "llama_mha_bias": (LLAMA, dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True), 9, {}, torch.float32),
    "llama_rope_llama3": (LLAMA, dict(head_dim=16, **LLAMA3), 21, {}, torch.float32),
    "llama_rope_linear": (LLAMA, rope("linear", factor=4.0), 17, {}, torch.float32),
    "llama_rope_yarn": (LLAMA, dict(head_dim=16, **YARN), 33, {}, torch.float32),
    "llama_sharded": (LLAMA, dict(num_key_value_heads=1), 5, dict(max_shard_size="40KB"), torch.float32),
    "llama_bf16": (LLAMA, dict(hidden_size=48, tie_word_embeddings=True), 11, {}, torch.bfloat16),
    "mistral_window": (MISTRAL, dict(sliding_window=8), 29, {}, torch.float32),
    "qwen2_tied": (QWEN2, dict(num_attention_heads=6, hidden_size=48, num_key_value_heads=2, tie_word_embeddings=True), 12, {}, torch.float32),
    "qwen2_window": (QWEN2, dict(use_sliding_window=True, sliding_window=12, max_window_layers=1), 25, {}, torch.float32),
    "qwen3": (QWEN3, dict(head_dim=24, num_key_value_heads=2), 19, {}, torch.float32),
    "mixtral": (MIXTRAL, dict(intermediate_size=24, num_local_experts=4, num_experts_per_tok=2, sliding_window=8), 23, {}, torch.float32),
    "qwen3_moe": (QWEN3_MOE, dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=12, norm_topk_prob=True), 15, {}, torch.float32),
    "qwen3_moe_mixed": (QWEN3_MOE, dict(num_hidden_layers=4, intermediate_size=24, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12,
                                        decoder_sparse_step=2, mlp_only_layers=[1], use_sliding_window=True, sliding_window=12), 27, {}, torch.float32),
}  # fmt: skip


def make(name, seed):
    """A model whose norms and biases are random too (transformers starts them at one and zero)."""
    family, extra, _, _, dtype = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **extra})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.uniform_(0.7, 1.3)
            elif parameter_name.endswith("bias"):
                parameter.uniform_(-0.3, 0.3)
    return model.to(dtype)


def run(directory, prompt):
    """What transformers makes of a saved checkpoint, in float32: (last logits, greedy tokens, smallest margin)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    ids = torch.tensor([prompt])
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NUM_GREEDY, eos_token_id=None,
        pad_token_id=0, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    best = torch.cat(out.logits).topk(2).values
    return logits, out.sequences[0, len(prompt) :].tolist(), (best[:, 0] - best[:, 1]).min().item()


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/hf")
    out = parser.parse_args().out
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()

    goldens = []
    for name, (_, _, prompt_len, save_args, dtype) in MODELS.items():
        directory = out / name
        for seed in range(1000):
            shutil.rmtree(directory, ignore_errors=True)
            make(name, seed).save_pretrained(directory, **save_args)
            prompt = torch.randint(0, COMMON["vocab_size"], [prompt_len], generator=torch.Generator().manual_seed(seed)).tolist()
            logits, tokens, margin = run(directory, prompt)
            if margin >= MIN_MARGIN and len(set(tokens)) >= MIN_DISTINCT:
                break
        goldens.append(
            dict(
                name=name, dtype=str(dtype).removeprefix("torch."), seed=seed, prompt=prompt, greedy=tokens, min_margin=round(margin, 5),
                logits_f32=base64.b64encode(logits.numpy().astype("<f4").tobytes()).decode(),
            )
        )  # fmt: skip
        print(f"{name:20} seed {seed:3}  margin {margin:.4f}  {len(set(tokens))} distinct tokens")
    lines = ",\n".join(json.dumps(g) for g in goldens)
    (out / "golden.json").write_text(f'{{"transformers": "{transformers.__version__}", "models": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
