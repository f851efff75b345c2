"""Tools: calls that the grammar forces, calls read out of text, results that are sent back."""

import json

import jsonschema
import openai
import pydantic
import pytest

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Oslo", "Lima"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"], "additionalProperties": False}


def tool(name, parameters, **more):
    return {"type": "function", "function": {"name": name, "description": f"Get the {name}", "parameters": parameters, **more}}


TOOLS = [tool("weather", WEATHER), tool("time", TIME)]
SCHEMAS = {"weather": WEATHER, "time": TIME}
DRAWN = {"max_completion_tokens": 1500, "temperature": 1}
NAMED = {"type": "function", "function": {"name": "time"}}
WRITTEN_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>'


def check_calls(calls):
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function"
        assert call.id
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def gather(stream):
    """The calls, the text and the last finish_reason of a stream, as a client puts them together."""
    calls, text, reason = {}, "", None
    for chunk in stream:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.delta.content or ""
            for delta in choice.delta.tool_calls or []:
                if delta.index not in calls:
                    assert delta.id and delta.function.name, "a call begins with its id and name"
                    calls[delta.index] = {"id": delta.id, "name": delta.function.name, "arguments": ""}
                else:
                    assert not delta.function.name
                calls[delta.index]["arguments"] += delta.function.arguments or ""
    return [calls[index] for index in sorted(calls)], text, reason


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_is_made(chat, seed):
    choice = chat("What is it?", tools=TOOLS, tool_choice="required", seed=seed, **DRAWN).choices[0]
    assert choice.finish_reason == "tool_calls"
    check_calls(choice.message.tool_calls)
    assert not choice.message.content


def test_a_required_call_is_streamed(chat):
    parameters = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": 5, **DRAWN}
    (call,), text, reason = gather(chat("What is it?", stream=True, **parameters))
    assert (text, reason) == ("", "tool_calls")
    jsonschema.validate(json.loads(call["arguments"]), SCHEMAS[call["name"]])
    whole = chat("What is it?", **parameters).choices[0].message.tool_calls[0].function
    assert (call["name"], json.loads(call["arguments"])) == (whole.name, json.loads(whole.arguments))


def test_a_named_call_is_that_one(chat):
    choice = chat("What is it?", tools=TOOLS, tool_choice=NAMED, seed=1, **DRAWN).choices[0]
    assert choice.finish_reason in ("stop", "tool_calls")
    assert [call.function.name for call in choice.message.tool_calls] == ["time"]
    check_calls(choice.message.tool_calls)


def test_a_named_call_is_streamed(chat):
    (call,), text, _ = gather(chat("What is it?", tools=TOOLS, tool_choice=NAMED, seed=1, stream=True, **DRAWN))
    assert (call["name"], text) == ("time", "")
    jsonschema.validate(json.loads(call["arguments"]), TIME)


@pytest.mark.parametrize("seed", range(3))
def test_without_parallel_calls_there_is_one(chat, seed):
    choice = chat("What is it?", tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed, **DRAWN).choices[0]
    assert len(choice.message.tool_calls) == 1


@pytest.mark.parametrize("max_tokens", [1, 3, 8, 40, 60])
def test_what_is_left_of_a_call_that_was_forced_is_no_content(chat, max_tokens):
    choice = chat("What is it?", tools=TOOLS, tool_choice="required", max_completion_tokens=max_tokens, temperature=1, seed=0).choices[0]
    assert not choice.message.content
    assert choice.finish_reason in ("length", "tool_calls")


def test_a_call_that_a_stop_string_cut_off_is_not_for_running(chat):
    choice = chat("What is it?", tools=TOOLS, tool_choice=NAMED, stop=["}"], **DRAWN).choices[0]
    assert choice.message.tool_calls and not choice.message.content
    assert choice.finish_reason == "stop"


def test_no_call_is_made_where_none_is_wanted(chat):
    body = {"structured_outputs": {"choice": [WRITTEN_CALL]}}
    choice = chat("What is it?", tools=TOOLS, tool_choice="none", extra_body=body, max_completion_tokens=200).choices[0]
    assert choice.message.tool_calls is None
    assert choice.message.content == WRITTEN_CALL
    assert choice.finish_reason == "stop"


def test_text_stays_text_where_the_model_may_choose(chat):
    body = {"structured_outputs": {"choice": ["It rains in <Oslo>."]}}
    choice = chat("What is it?", tools=TOOLS, tool_choice="auto", extra_body=body, max_completion_tokens=200).choices[0]
    assert choice.message.content == "It rains in <Oslo>."
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"


def test_a_call_that_the_model_wrote_is_read(chat):
    body = {"structured_outputs": {"choice": [WRITTEN_CALL]}}
    choice = chat("What is it?", tools=TOOLS, extra_body=body, max_completion_tokens=200).choices[0]
    assert choice.finish_reason == "tool_calls"
    check_calls(choice.message.tool_calls)
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Oslo", "days": 3}
    assert not choice.message.content


def test_several_calls_after_text_are_read_and_streamed(chat):
    second = '<tool_call>\n{"name": "time", "arguments": {"zone": "UTC"}}\n</tool_call>'
    body = {"structured_outputs": {"choice": [f"Let me see.\n{WRITTEN_CALL}\n{second}"]}}
    parameters = {"tools": TOOLS, "extra_body": body, "max_completion_tokens": 300}
    message = chat("What is it?", **parameters).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["weather", "time"]
    assert message.content.strip() == "Let me see."
    calls, text, reason = gather(chat("What is it?", stream=True, **parameters))
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [("weather", {"city": "Oslo", "days": 3}), ("time", {"zone": "UTC"})]
    assert (text.strip(), reason) == ("Let me see.", "tool_calls")


def test_a_malformed_call_is_text(chat):
    text = '<tool_call>\n{"name": "weather", "arguments"\n</tool_call>'
    choice = chat("What is it?", tools=TOOLS, extra_body={"structured_outputs": {"choice": [text]}}, max_completion_tokens=200).choices[0]
    assert choice.message.tool_calls is None
    assert choice.message.content == text


def test_the_result_of_a_call_is_sent_back(chat):
    question = {"role": "user", "content": "What is it?"}
    first = chat([question], tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=2, **DRAWN).choices[0].message
    (call,) = first.tool_calls
    conversation = [question, first.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": '{"rain": true}'}]
    second = chat(conversation, tools=TOOLS, tool_choice="none", max_completion_tokens=8)
    assert second.choices[0].message.content is not None
    assert second.usage.prompt_tokens > chat([question], tools=TOOLS, tool_choice="none", max_completion_tokens=1).usage.prompt_tokens


def test_tools_are_shown_to_the_model(chat):
    without = chat("What is it?", max_completion_tokens=1).usage.prompt_tokens
    assert chat("What is it?", tools=TOOLS, max_completion_tokens=1).usage.prompt_tokens > without


class Fetch(pydantic.BaseModel):
    """Fetches a page."""

    model_config = {"extra": "forbid"}
    page: int = pydantic.Field(ge=1, le=9)


def test_a_class_of_the_client_is_a_tool(client, server):
    answer = client.chat.completions.parse(model=server.model, messages=[{"role": "user", "content": "Go"}],
                                           tools=[openai.pydantic_function_tool(Fetch)], tool_choice="required", parallel_tool_calls=False, **DRAWN)
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Fetch)


def test_a_tool_without_parameters_is_called_with_none(chat):
    choice = chat("Go", tools=[{"type": "function", "function": {"name": "ping"}}], tool_choice="required", parallel_tool_calls=False, **DRAWN).choices[0]
    (call,) = choice.message.tool_calls
    assert call.function.name == "ping"
    assert isinstance(json.loads(call.function.arguments or "{}"), dict)
