"""Checks a checkpoint against independent readers: the training model and, for llama, transformers."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from demo.evaluate import Evaluator
from demo.model import Decoder, Shape
from demo.tokenizer import encode


def training_model(directory):
    """The training model with the exported weights."""
    config = json.loads((directory / "config.json").read_text())
    composition = config.get("head_composition")
    heads = composition["num_component_key_heads"] if composition else config["num_key_value_heads"]
    model = Decoder(Shape(config["vocab_size"], component_heads=heads, composed=bool(composition)))
    tensors = load_file(directory / "model.safetensors")
    names = {k.removeprefix("model.").replace("_hlc.weight", "_hlc"): v.float() for k, v in tensors.items()}
    model.load_state_dict(names)
    return model


@torch.no_grad()
def check(directory, text):
    """Largest difference of logits over `text` to each other reader, relative to the largest logit."""
    directory = Path(directory)
    evaluator = Evaluator(directory)
    ids = [evaluator.end, *encode(evaluator.tokenizer, text)]
    expected = evaluator.model(torch.tensor(ids))
    differences = {"training model": training_model(directory)(torch.tensor([ids]))[0] - expected}
    if evaluator.model.config["model_type"] == "llama":
        llama = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        differences["transformers"] = llama(torch.tensor([ids])).logits[0] - expected
    differences = {reader: (difference.abs().max() / expected.abs().max()).item() for reader, difference in differences.items()}
    fast = PreTrainedTokenizerFast.from_pretrained(directory)
    if fast(text).input_ids != ids or fast.decode(ids[1:]) != text:
        raise SystemExit(f"{directory}: PreTrainedTokenizerFast reads the text otherwise")
    if max(differences.values()) > 1e-4:
        raise SystemExit(f"{directory}: logits differ: {differences}")
    return differences
