"""A gRPC client in Python, with stubs made of the .proto files alone."""

import json

import grpc
import jsonschema
import pytest
import serving
from structured_test import EVENT
from tools_test import SCHEMAS, TOOLS, WRITTEN_CALL


@pytest.fixture(scope="module")
def stub(protocol, server):
    if not server.grpc_address:
        pytest.skip("this server speaks no gRPC")
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield protocol[2].InferenceStub(channel)


def chat_request(protocol, text, chat=None, **parameters):
    types, inference, _ = protocol
    messages = [types.ChatMessage(role="user", content=text)]
    return inference.GenerateRequest(chat=types.Chat(messages=messages, **(chat or {})), **parameters)


def test_a_conversation_is_answered(stub, protocol, chat):
    answer = stub.Generate(chat_request(protocol, "Hello", stopping={"max_tokens": 10, "ignore_eos": True}, sampling={"temperature": 0}))
    (completion,) = answer.completions
    same = chat("Hello", max_completion_tokens=10, temperature=0, extra_body=serving.GO_ON)
    assert completion.reply.content == same.choices[0].message.content
    assert answer.prompt.prompt_tokens == same.usage.prompt_tokens
    assert len(completion.token_ids) == 10


def test_a_conversation_is_streamed(stub, protocol):
    request = chat_request(protocol, "Hello", stopping={"max_tokens": 10, "ignore_eos": True}, sampling={"temperature": 0})
    events = list(stub.GenerateStream(request))
    assert [event.WhichOneof("event") for event in events][:: len(events) - 1] == ["prompt", "finish"]
    text = "".join(event.delta.reply.content for event in events)
    assert text == stub.Generate(request).completions[0].reply.content


def test_a_conversation_is_rendered_as_http_tokenizes_it(stub, protocol, server):
    types, inference, _ = protocol
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello <|endoftext|>"}]
    rendered = stub.RenderChat(inference.RenderChatRequest(chat=types.Chat(messages=[types.ChatMessage(**message) for message in messages],
                                                                           tools=[json.dumps(tool) for tool in TOOLS])))
    assert "Be short." in rendered.text
    assert '"weather"' in rendered.text
    assert rendered.max_context == serving.MAX_CONTEXT
    http = server.post("/tokenize", {"model": server.model, "messages": messages, "tools": TOOLS}).json()
    assert list(rendered.token_ids) == http["tokens"]


def test_what_a_user_says_is_never_a_special_token(stub, protocol, server):
    types, inference, _ = protocol
    message = types.ChatMessage(role="user", content="<|endoftext|>")
    rendered = stub.RenderChat(inference.RenderChatRequest(chat=types.Chat(messages=[message])))
    special = server.post("/tokenize", {"model": server.model, "prompt": "<|endoftext|>", "add_special_tokens": False}).json()["tokens"]
    assert len(special) == 1
    assert special[0] not in list(rendered.token_ids)[1:]  # the first may be the template's own


def test_a_schema_is_kept(stub, protocol):
    request = chat_request(protocol, "Make an event", stopping={"max_tokens": 1500}, sampling={"temperature": 1, "seed": 3},
                           structured_output={"json_schema": json.dumps(EVENT)})
    jsonschema.validate(json.loads(stub.Generate(request).completions[0].reply.content), EVENT)


def test_a_call_is_forced_and_a_written_one_is_read(stub, protocol):
    types = protocol[0]
    tools = {"tools": [json.dumps(tool) for tool in TOOLS]}
    forced = chat_request(protocol, "Go", {**tools, "tool_choice": types.TOOL_CHOICE_REQUIRED, "parallel_tool_calls": False}, stopping={"max_tokens": 1500},
                          sampling={"temperature": 1, "seed": 3})
    (call,) = stub.Generate(forced).completions[0].reply.tool_calls
    jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
    written = chat_request(protocol, "Go", tools, stopping={"max_tokens": 300}, structured_output={"choice": {"values": [WRITTEN_CALL]}})
    (call,) = stub.Generate(written).completions[0].reply.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo", "days": 3})


@pytest.mark.parametrize("change, word", [({"structured_output": {"regex": "("}}, "regex"), ({"sampling": {"temperature": 5}}, "temperature"),
                                          ({"chat": {"tools": ["{"]}}, "tools"), ({"chat": {"tool_choice": 99}}, "tool_choice"), ({"chat": {"template_kwargs": "[]"}}, "template_kwargs")])
def test_a_bad_field_is_named(stub, protocol, change, word):
    change = dict(change)
    request = chat_request(protocol, "x", change.pop("chat", None), **change)
    with pytest.raises(grpc.RpcError) as raised:
        stub.Generate(request)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert word in raised.value.details()
