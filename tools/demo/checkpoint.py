"""Writes a trained model as a checkpoint directory: BF16 safetensors, config, tokenizer."""

import json

import torch
from safetensors.torch import save_file

from demo.tokenizer import END, save_tokenizer


def model_config(shape, end_id):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "torch_dtype": "bfloat16",
    }
    if shape.composed:
        config |= {
            "architectures": ["MeaForCausalLM"],
            "model_type": "mea",
            "base_model_type": "llama",
            "head_composition": {
                "kind": "mea",
                "num_component_key_heads": shape.component_heads,
                "num_component_value_heads": shape.component_heads,
                "head_norm": "rms",
                "head_norm_eps": shape.norm_eps,
            },
        }
    return config


def checkpoint_tensors(model):
    """The state dict under Hugging Face's names, BF16."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("_hlc"):
            name += ".weight"
        tensors["model." + name] = tensor.to(torch.bfloat16).contiguous()
    return tensors


def export(model, tokenizer, directory):
    directory.mkdir(parents=True, exist_ok=True)
    end_id = tokenizer.token_to_id(END)
    weights = directory / "model.safetensors"
    save_file(checkpoint_tensors(model), weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    generation = {"bos_token_id": end_id, "eos_token_id": end_id, "do_sample": False}
    _write_json(directory / "config.json", model_config(model.shape, end_id))
    _write_json(directory / "generation_config.json", generation)
    save_tokenizer(tokenizer, directory)


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")
