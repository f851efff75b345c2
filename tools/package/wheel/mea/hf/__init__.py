"""MEA checkpoints in Hugging Face transformers, which is loaded only when it is used.

    mea.hf.register()
    model = AutoModelForCausalLM.from_pretrained(DIR)    # no trust_remote_code
"""

from __future__ import annotations

from typing import Any

__all__ = ["MeaConfig", "MeaForCausalLM", "register"]


def register() -> None:
    """Makes AutoConfig and AutoModelForCausalLM know checkpoints of the model_type "mea"."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from mea.hf.configuration_mea import MeaConfig
    from mea.hf.modeling_mea import MeaForCausalLM

    AutoConfig.register("mea", MeaConfig)
    AutoModelForCausalLM.register(MeaConfig, MeaForCausalLM)


def __getattr__(name: str) -> Any:
    if name == "MeaConfig":
        from mea.hf.configuration_mea import MeaConfig

        return MeaConfig
    if name == "MeaForCausalLM":
        from mea.hf.modeling_mea import MeaForCausalLM

        return MeaForCausalLM
    raise AttributeError(f"module 'mea.hf' has no attribute '{name}'")
