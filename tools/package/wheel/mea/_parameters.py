"""What may be asked of a completion. Meaning and ranges: mea/v1/types.proto; what is left out takes the model's default."""

from __future__ import annotations

from typing import Any, Mapping, Sequence, TypedDict


class Parameters(TypedDict, total=False):
    """Fields of GenerateRequest and of its parts: a name is in only one of them."""

    request_id: str
    model: str
    priority: int
    # sampling
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int
    n: int
    logit_bias: Mapping[int, float]
    allowed_token_ids: Sequence[int]
    # stopping
    max_tokens: int
    min_tokens: int
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    include_stop: bool
    # response
    logprobs: int
    prompt_logprobs: bool
    echo: bool
    prompt_token_ids: bool
    # cache
    bypass_prefix_cache: bool
    cache_salt: str
    # structured_output: at most one of them; a schema or a tag as JSON text, or as what that text means
    json_object: bool
    json_schema: str | Mapping[str, Any]
    regex: str
    choice: Sequence[str]
    grammar: str
    structural_tag: str | Mapping[str, Any]


class TextParameters(Parameters, total=False):
    """Of a text alone."""

    add_special_tokens: bool
    parse_special: bool


class ChatParameters(Parameters, total=False):
    """Of a conversation alone: the fields of Chat."""

    add_generation_prompt: bool
    continue_final_message: bool
    tools: Sequence[Mapping[str, Any]]
    documents: Sequence[Mapping[str, Any]]
    template_kwargs: Mapping[str, Any]
    template_name: str
    tool_choice: str  # "auto", "none" or "required"
    tool_name: str
    parallel_tool_calls: bool
    raw_reply: bool
