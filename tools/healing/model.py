"""Checkpoints in and out of transformers, and which of their parameters are trained."""

import re
import shutil
import sys

import torch
from hf.configuration_mea import MeaConfig
from hf.modeling_mea import MeaForCausalLM
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

ATTENTION = re.compile(r"\.self_attn\.(k_proj|v_proj|o_proj|k_hlc|v_hlc|k_norm|head_norm)\.")
# Files that save_pretrained does not write; the tokenizer is copied as it is.
COMPANIONS = (
    "generation_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def fail(message):
    sys.exit(f"heal: {str(message).strip().splitlines()[0]}")


def register():
    """MEA checkpoints load without the code beside them, and are saved with it."""
    AutoConfig.register("mea", MeaConfig)
    AutoModelForCausalLM.register(MeaConfig, MeaForCausalLM)
    MeaConfig.register_for_auto_class()
    MeaForCausalLM.register_for_auto_class("AutoModelForCausalLM")


def load_model(directory, device, dtype):
    """A checkpoint of ours or of transformers with every tensor in its place, or one line that says what is not."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, output_loading_info=True, local_files_only=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        fail(f"{directory}: {error}")
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            fail(f"{directory}: {what.replace('_', ' ')}: {', '.join(str(key) for key in sorted(info[what])[:3])}")
    return model.to(device)


def load_tokenizer(directory):
    try:
        return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        fail(f"{directory}: tokenizer: {error}")


def trained_parameters(model, which):
    """Freezes the others. A mix that is the identity to the bit stays so: its projection can do all it could."""
    chosen = []
    for name, parameter in model.named_parameters():
        identity = name.endswith("_hlc.weight") and _is_identity(parameter)
        parameter.requires_grad_(not identity and (which == "all" or ATTENTION.search(name) is not None))
        if parameter.requires_grad:
            chosen.append(parameter)
    return chosen


def _is_identity(mix):
    return mix.shape[0] == mix.shape[1] and torch.equal(mix, torch.eye(len(mix), device=mix.device, dtype=mix.dtype))


def export(model, source, out, dtype):
    """OUT appears when all of it is written."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.to(dtype).save_pretrained(temporary)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, temporary / name)
    temporary.rename(out)
