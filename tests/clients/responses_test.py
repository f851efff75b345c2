"""The Responses API."""

import json

import jsonschema
from serving import GO_ON
from structured_test import EVENT
from tools_test import SCHEMAS, TIME, WEATHER

TOOLS = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}, {"type": "function", "name": "time", "parameters": TIME, "strict": True}]


def test_a_text_is_answered(client, server):
    answer = client.responses.create(model=server.model, input="Hello", max_output_tokens=12, extra_body=GO_ON)
    assert answer.object == "response"
    assert answer.id.startswith("resp_")
    assert answer.model == server.model
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[-1].type == "message"
    assert answer.output[-1].role == "assistant"
    assert answer.output_text == answer.output[-1].content[0].text
    assert answer.usage.output_tokens == 12
    assert answer.usage.total_tokens == answer.usage.input_tokens + 12


def test_an_answer_that_ends_by_itself_is_completed(client, server):
    form = {"format": {"type": "json_schema", "name": "end", "schema": {"enum": ["The end."]}, "strict": True}}
    answer = client.responses.create(model=server.model, input="Hello", max_output_tokens=50, text=form)
    assert (answer.status, answer.output_text) == ("completed", '"The end."')


def test_instructions_and_messages_are_the_conversation(client, server, chat):
    answer = client.responses.create(model=server.model, instructions="Be short.", temperature=0, max_output_tokens=10, input=[
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ])
    same = chat([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                 {"role": "user", "content": "And?"}], max_completion_tokens=10, temperature=0)
    assert answer.output_text == same.choices[0].message.content
    assert answer.usage.input_tokens == same.usage.prompt_tokens


def test_a_schema_is_kept(client, server):
    form = {"format": {"type": "json_schema", "name": "event", "schema": EVENT, "strict": True}}
    answer = client.responses.create(model=server.model, input="Make an event", text=form, max_output_tokens=1500, temperature=1)
    jsonschema.validate(json.loads(answer.output_text), EVENT)


def test_events_come_in_their_order(client, server):
    events = list(client.responses.create(model=server.model, input="Hello", max_output_tokens=12, temperature=0, stream=True, extra_body=GO_ON))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.incomplete"
    expected = ["response.created", "response.output_item.added", "response.content_part.added", "response.output_text.delta",
                "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    positions = [kinds.index(kind) for kind in expected]
    assert positions == sorted(positions)
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    done = next(event for event in events if event.type == "response.output_text.done")
    assert text == done.text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == 12


def test_each_event_names_itself(server):
    body = {"model": server.model, "input": "Hello", "max_output_tokens": 2, "stream": True}
    answer = server.post("/v1/responses", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    for block in filter(None, answer.body.decode().split("\n\n")):
        if block == "data: [DONE]":
            continue
        name, data = block.split("\n", 1)
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")


def test_a_call_is_made_and_answered(client, server):
    first = client.responses.create(model=server.model, input="What is it?", tools=TOOLS, tool_choice="required", parallel_tool_calls=False,
                                    max_output_tokens=1500, temperature=1)
    (call,) = [item for item in first.output if item.type == "function_call"]
    jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
    assert call.call_id
    second = client.responses.create(model=server.model, tools=TOOLS, tool_choice="none", max_output_tokens=6, input=[
        {"role": "user", "content": "What is it?"},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": '{"rain": true}'},
    ])
    assert second.output[-1].type == "message"


def test_a_call_is_streamed(client, server):
    events = list(client.responses.create(model=server.model, input="What is it?", tools=TOOLS, tool_choice={"type": "function", "name": "time"},
                                          max_output_tokens=1500, temperature=1, stream=True))
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert arguments == done.arguments
    jsonschema.validate(json.loads(arguments), TIME)
    assert events[-1].type == "response.completed"


def test_a_conversation_that_is_not_kept_here_is_refused(server):
    """Nothing is stored: what would need it says so."""
    answer = server.post("/v1/responses", {"model": server.model, "input": "x", "previous_response_id": "resp_1"})
    assert answer.status in (400, 404)
    assert answer.json()["error"]["param"] == "previous_response_id"
