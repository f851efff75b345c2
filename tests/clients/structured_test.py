"""Structured output: whatever the weights, what is said fits what was asked for.

Strings and numbers are bounded here, so that a model that knows nothing comes to an end as well.
"""

import json
import re
import typing

import jsonschema
import pydantic
import pytest

EVENT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "day": {"enum": ["monday", "friday"]},
        "guests": {"type": "array", "items": {"enum": ["Ada", "Bob", "Eve"]}, "minItems": 1, "maxItems": 3},
        "hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "open": {"type": "boolean"},
    },
    "required": ["name", "day", "guests", "hour", "open"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "event", "strict": True, "schema": EVENT}}
DRAWN = {"max_completion_tokens": 1500, "temperature": 1}


def content_of(stream):
    chunks = list(stream)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), reasons[-1]


@pytest.mark.parametrize("seed", range(4))
def test_a_strict_schema_is_kept(chat, seed):
    choice = chat("Make an event", response_format=FORMAT, seed=seed, **DRAWN).choices[0]
    assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(choice.message.content), EVENT)


def test_a_strict_schema_is_kept_while_streaming(chat):
    text, reason = content_of(chat("Make an event", response_format=FORMAT, seed=9, stream=True, **DRAWN))
    assert reason == "stop"
    jsonschema.validate(json.loads(text), EVENT)


def test_each_of_several_choices_keeps_the_schema(chat):
    answer = chat("Make an event", response_format=FORMAT, n=3, seed=30, **DRAWN)
    assert len({choice.message.content for choice in answer.choices}) > 1
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content), EVENT)


def test_the_greedy_answer_keeps_the_schema_and_its_logprobs(chat):
    choice = chat("Make an event", response_format=FORMAT, max_completion_tokens=1500, temperature=0, logprobs=True).choices[0]
    jsonschema.validate(json.loads(choice.message.content), EVENT)
    assert all(entry.logprob <= 0 for entry in choice.logprobs.content)


def test_a_json_object_is_one(chat, server):
    # Left to itself the model might never close the brace.
    (brace,) = server.tokens("}")[-1:]
    choice = chat("JSON please", response_format={"type": "json_object"}, logit_bias={str(brace): 60}, **DRAWN).choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(json.loads(choice.message.content), dict)


def test_a_json_object_cut_short_is_the_beginning_of_one(chat):
    choice = chat("JSON please", response_format={"type": "json_object"}, max_completion_tokens=8, temperature=1, seed=2).choices[0]
    assert choice.message.content.lstrip()[:1] in ("{", "")
    if choice.finish_reason == "stop":
        json.loads(choice.message.content)


def test_text_is_a_format_too(chat):
    assert chat("Hello", response_format={"type": "text"}, max_completion_tokens=4).choices[0].message.content is not None


class Reading(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    unit: typing.Literal["celsius", "kelvin"]
    degrees: int = pydantic.Field(ge=-50, le=50)
    station: typing.Optional[typing.Literal["north", "south"]]


def test_a_class_of_the_client_is_parsed(client, server):
    answer = client.chat.completions.parse(model=server.model, messages=[{"role": "user", "content": "Read"}], response_format=Reading, **DRAWN)
    assert isinstance(answer.choices[0].message.parsed, Reading)


def test_a_recursive_schema_is_kept(chat):
    schema = {"$defs": {"node": {"type": "object", "properties": {"id": {"enum": [1, 2]}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                                 "required": ["id", "next"], "additionalProperties": False}}, "$ref": "#/$defs/node"}
    form = {"type": "json_schema", "json_schema": {"name": "list", "strict": True, "schema": schema}}
    choice = chat("A list", response_format=form, seed=1, **DRAWN).choices[0]
    if choice.finish_reason == "stop":
        jsonschema.validate(json.loads(choice.message.content), schema)
    else:
        assert choice.message.content.lstrip().startswith("{")


EXTENSIONS = {
    "choice": (["yes", "no", "perhaps"], lambda text: text in ("yes", "no", "perhaps")),
    "regex": (r"[A-Z]{2}-[0-9]{3}", lambda text: re.fullmatch(r"[A-Z]{2}-[0-9]{3}", text)),
    "grammar": ('root ::= "(" root ")" | "x"', lambda text: re.fullmatch(r"(\()*x(\))*", text) and text.count("(") == text.count(")")),
    "json": (EVENT, lambda text: jsonschema.validate(json.loads(text), EVENT) is None),
}


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("spelling", ["structured_outputs", "guided"])
def test_extensions_are_kept_in_both_spellings(chat, kind, spelling):
    value, fits = EXTENSIONS[kind]
    body = {"structured_outputs": {kind: value}} if spelling == "structured_outputs" else {f"guided_{kind}": value}
    choice = chat("Answer", seed=3, extra_body=body, **DRAWN).choices[0]
    if choice.finish_reason == "stop":
        assert fits(choice.message.content), choice.message.content
    else:
        assert kind == "grammar", "only the grammar allows texts without end"


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_completions_are_structured_too(complete, kind):
    value, fits = EXTENSIONS[kind]
    choice = complete("Answer:", max_tokens=1500, temperature=1, seed=5, extra_body={"structured_outputs": {kind: value}}).choices[0]
    assert choice.finish_reason == "length" or fits(choice.text), choice.text


def test_the_schema_may_be_a_string(chat):
    choice = chat("Answer", extra_body={"guided_json": json.dumps(EVENT)}, seed=3, **DRAWN).choices[0]
    jsonschema.validate(json.loads(choice.message.content), EVENT)


def test_every_choice_can_be_drawn(chat):
    body = {"structured_outputs": {"choice": ["a", "b"]}}
    seen = {chat("Answer", extra_body=body, max_completion_tokens=5, temperature=1, seed=seed).choices[0].message.content for seed in range(24)}
    assert seen <= {"a", "b"}


def test_ignoring_the_end_adds_nothing_to_a_finished_answer(chat):
    choice = chat("Answer", max_completion_tokens=50, extra_body={"structured_outputs": {"choice": ["done"]}, "ignore_eos": True}).choices[0]
    assert choice.message.content == "done"


def test_requests_without_a_schema_are_not_bound_by_one(chat):
    plain = chat("Make an event", max_completion_tokens=20, temperature=0).choices[0].message.content
    chat("Make an event", response_format=FORMAT, seed=1, **DRAWN)
    assert chat("Make an event", max_completion_tokens=20, temperature=0).choices[0].message.content == plain
