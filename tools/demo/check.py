"""Checks a checkpoint against other readers: the training model and, for llama, transformers."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from demo.model import Decoder, Shape, rope_tables
from demo.reference import MeaForCausalLM

# Relative to the largest logit. transformers rounds RoPE's angles to float32, and steep attention
# makes 1e-4 of it; in float64 what is compared is the formulas.
TOLERANCE = {"training model, float64": 1e-9, "transformers, float32": 1e-3}


def training_model(directory):
    """The training model with the exported weights, in float64."""
    config = json.loads((directory / "config.json").read_text())
    composition = config.get("head_composition")
    heads = (composition or {}).get("num_component_key_heads", config["num_key_value_heads"])
    shape = Shape(config["vocab_size"], component_heads=heads, composed=bool(composition))
    model = Decoder(shape)
    tensors = load_file(directory / "model.safetensors")
    names = {name: name.removeprefix("model.").replace("_hlc.weight", "_hlc") for name in tensors}
    model.load_state_dict({names[name]: tensor for name, tensor in tensors.items()})
    model.double()
    model.cos, model.sin = rope_tables(shape, torch.float64)
    return model


@torch.no_grad()
def check(directory, text):
    """Largest difference of logits over `text` to each reader; exits where one disagrees."""
    directory = Path(directory)
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(text).ids
    fast = PreTrainedTokenizerFast.from_pretrained(directory)
    if fast(text).input_ids != ids or fast.decode(ids, skip_special_tokens=True) != text:
        raise SystemExit(f"{directory}: PreTrainedTokenizerFast reads the text otherwise")

    reference = MeaForCausalLM(directory, torch.float64)
    expected = reference(torch.tensor(ids))
    logits = {"training model, float64": training_model(directory)(torch.tensor([ids]))[0]}
    if reference.config["model_type"] == "llama":
        llama = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        logits["transformers, float32"] = llama(torch.tensor([ids])).logits[0]
    differences = {}
    for reader, found in logits.items():
        differences[reader] = ((found - expected).abs().max() / expected.abs().max()).item()
        if not differences[reader] < TOLERANCE[reader]:
            raise SystemExit(f"{directory}: {reader}: logits differ by {differences[reader]:.1e}")
    return differences
