"""Python values to messages of mea.v1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from mea.v1 import inference_pb2, types_pb2

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mea._parameters import ChatParameters, TextParameters

_PARTS = ("sampling", "stopping", "response", "cache", "structured_output")
_FIELDS = inference_pb2.GenerateRequest.DESCRIPTOR.fields_by_name
_PART_OF = {field.name: part for part in _PARTS for field in _FIELDS[part].message_type.fields}
_OWN = frozenset(_FIELDS) - {*_PARTS, "text", "token_ids", "chat"}
_CHAT = frozenset(field.name for field in types_pb2.Chat.DESCRIPTOR.fields) - {"messages"}


def generate_request(prompt: str | Sequence[int], **parameters: Unpack[TextParameters]) -> inference_pb2.GenerateRequest:
    """A text, or the ids of its tokens, to complete."""
    request = _request(parameters)
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    return request


def chat_request(messages: Sequence[Mapping[str, Any]], **parameters: Unpack[ChatParameters]) -> inference_pb2.GenerateRequest:
    """A conversation to answer: messages as {"role": "user", "content": "Hello"}."""
    fields: dict[str, Any] = dict(parameters)
    chat = {name: _chat_value(name, fields.pop(name)) for name in _CHAT & fields.keys()}
    request = _request(fields)
    request.chat.CopyFrom(types_pb2.Chat(messages=[types_pb2.ChatMessage(json=json.dumps(message)) for message in messages], **chat))
    return request


def _request(parameters: Mapping[str, Any]) -> inference_pb2.GenerateRequest:
    fields: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in _OWN:
            fields[name] = value
        elif name in _PART_OF:
            fields.setdefault(_PART_OF[name], {})[name] = _part_value(name, value)
        else:
            raise TypeError(f"no parameter '{name}'; there are {', '.join(sorted(_OWN | _PART_OF.keys() | _CHAT))}")
    return inference_pb2.GenerateRequest(**fields)


def _part_value(name: str, value: Any) -> Any:
    if name == "choice":
        return {"values": value}
    return json.dumps(value) if name in ("json_schema", "structural_tag") and not isinstance(value, str) else value


def _chat_value(name: str, value: Any) -> Any:
    if name in ("tools", "documents"):
        return [json.dumps(entry) for entry in value]
    if name == "template_kwargs":
        return json.dumps(value)
    return types_pb2.ToolChoice.Value(f"TOOL_CHOICE_{value.upper()}") if name == "tool_choice" else value
