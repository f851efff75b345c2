"""What is refused, and how: the classes that clients raise, and the field that each error names."""

import json

import openai
import pytest
from structured_test import FORMAT
from tools_test import TOOLS

USER = [{"role": "user", "content": "x"}]
CHAT = {"messages": USER, "max_tokens": 2}
COMPLETION = {"prompt": "x", "max_tokens": 2}

# (changes to a good request, the field that the error names)
SAMPLING = [
    ({"max_tokens": "ten"}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 10**12}, "max_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.01}, "top_p"),
    ({"top_p": [1]}, "top_p"),
    ({"top_k": "many"}, "top_k"),
    ({"top_k": 2.5}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"n": 0}, "n"),
    ({"n": "two"}, "n"),
    ({"n": 1000}, "n"),
    ({"seed": "x"}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"stop": 5}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop": ["x"] * 100}, "stop"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": "x"}, "frequency_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 1000}}, "logit_bias"),
    ({"logit_bias": {"5": "a"}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    ({"stream": "yes"}, "stream"),
    ({"stream": True, "stream_options": 5}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"priority": "high"}, "priority"),
    ({"priority": 10**6}, "priority"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 3}, "min_tokens"),
    ({"stop_token_ids": ["a"]}, "stop_token_ids"),
    ({"stop_token_ids": [-5]}, "stop_token_ids"),
    ({"ignore_eos": "x"}, "ignore_eos"),
    ({"include_stop_str_in_output": 1}, "include_stop_str_in_output"),
    ({"cache_salt": 5}, "cache_salt"),
    ({"return_token_ids": "x"}, "return_token_ids"),
    ({"prompt_logprobs": -2}, "prompt_logprobs"),
    ({"prompt_logprobs": "x"}, "prompt_logprobs"),
    ({"structured_outputs": "x"}, "structured_outputs"),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    ({"structured_outputs": {"json": {"type": "strin"}}}, "structured_outputs"),
    ({"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs"),
    ({"guided_regex": 5}, "guided_regex"),
    ({"bad_words": ["x"]}, "bad_words"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_grammar": "root ::= ("}, "guided_grammar"),
    ({"guided_json": "{"}, "guided_json"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "strin"}}}}, "response_format"),
    ({"response_format": FORMAT, "guided_regex": "a"}, "response_format"),
]

CHAT_ONLY = [
    ({"model": 5}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages"),
    ({"messages": [{"role": 5, "content": "x"}]}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
    ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": 5}}]}]}, "messages"),
    ({"messages": USER * 3000}, "messages"),
    ({"max_completion_tokens": "ten"}, "max_completion_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 500}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"tools": "x"}, "tools"),
    ({"tools": [{}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]}, "tools"),
    ({"tools": [{"type": "retrieval"}]}, "tools"),
    ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "parallel_tool_calls": "x"}, "parallel_tool_calls"),
    ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"documents": "x"}, "documents"),
    ({"documents": [1]}, "documents"),
    ({"add_generation_prompt": "x"}, "add_generation_prompt"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
]

COMPLETION_ONLY = [
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**9]}, "prompt"),
    ({"prompt": [["a"]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": "word " * 5000}, "prompt"),
    ({"logprobs": 100}, "logprobs"),
    ({"logprobs": "x"}, "logprobs"),
    ({"echo": "x"}, "echo"),
    ({"suffix": "and then"}, "suffix"),
]

RESPONSES = [
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user"}]}, "input"),
    ({"input": [{"type": "computer_call"}]}, "input"),
    ({"max_output_tokens": "x"}, "max_output_tokens"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"instructions": 5}, "instructions"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"text": {"format": {"type": "xml"}}}, "text"),
    ({"stream": 1}, "stream"),
    ({"background": True}, "background"),
]

CASES = (
    [("/v1/chat/completions", CHAT, *case) for case in SAMPLING + CHAT_ONLY]
    + [("/v1/completions", COMPLETION, *case) for case in SAMPLING + COMPLETION_ONLY]
    + [("/v1/responses", {"input": "x"}, *case) for case in RESPONSES]
)


def name_of(case):
    path, _, change, _ = case
    return f"{path[4:8]}-{json.dumps(change)[:60]}"


@pytest.mark.parametrize("case", CASES, ids=map(name_of, CASES))
def test_a_bad_field_is_named(server, case):
    path, good, change, param = case
    body = {"model": server.model, **good, **change}
    body = {key: value for key, value in body.items() if value is not None}
    answer = server.post(path, body)
    assert answer.status == 400, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    named = (error["param"] or "").replace("max_completion_tokens", "max_tokens") if param == "max_tokens" else error["param"] or ""
    assert named.split(".")[0].split("[")[0] == param, error
    assert error["message"] and "\n" not in error["message"]


@pytest.mark.parametrize("seconds", ["nan", "soon", "-1", "0"])
def test_a_time_limit_that_is_none_is_refused(server, seconds):
    answer = server.post("/v1/chat/completions", {"model": server.model, **CHAT}, headers={"X-Request-Timeout": seconds})
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert error["param"] == "X-Request-Timeout"
    assert seconds in error["message"]


@pytest.mark.parametrize("change", [{"temperature": None}, {"stop": None}, {"tools": None}, {"response_format": None}, {"seed": None},
                                    {"logit_bias": None}, {"n": None}, {"max_tokens": None, "max_completion_tokens": 3}, {"stream": None},
                                    {"temperature": 1, "top_k": -1}, {"temperature": 0.0, "top_p": 1.0}, {"max_tokens": 3.0}])
def test_null_is_as_if_it_were_left_out(server, change):
    assert server.post("/v1/chat/completions", {"model": server.model, **CHAT, **change}).status == 200


def test_the_client_raises_what_it_documents(chat):
    with pytest.raises(openai.BadRequestError) as raised:
        chat("x", temperature=5)
    assert raised.value.status_code == 400
    assert raised.value.param == "temperature"
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id
    assert "temperature" in raised.value.message and "5" in raised.value.message and "2" in raised.value.message


def test_a_bad_request_is_refused_before_the_stream_begins(chat):
    with pytest.raises(openai.BadRequestError):
        chat("x", temperature=5, stream=True)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"{'a': 1}", b'{"model": NaN}', b"\xff\xfe", b'{"a": "\xc3\x28"}',
                                  b'{"model": "demo", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', b"[" * 100_000,
                                  b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"model": "demo"} trailing'])
def test_a_body_that_is_no_json_object_is_refused(server, body):
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"):
        answer = server.post(path, body)
        assert answer.status == 400, (path, answer.body)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_lone_surrogate_is_refused_or_replaced(server):
    body = b'{"model": "' + server.model.encode() + b'", "max_tokens": 1, "messages": [{"role": "user", "content": "\\ud83d"}]}'
    assert server.post("/v1/chat/completions", body).status in (200, 400)


def test_nul_and_controls_in_a_text_are_text(chat):
    assert chat("a\x00b\x07\x1b[0m", max_completion_tokens=2).usage.completion_tokens >= 1


def test_a_huge_body_is_413(server):
    answer = server.post("/v1/chat/completions", b'{"model": "' + b"x" * (64 << 20) + b'"}')
    assert answer.status == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_path_is_404_and_a_wrong_method_405(server):
    assert server.ask("GET", "/v1/nothing").status == 404
    assert server.ask("GET", "/v1/nothing").json()["error"]["message"]
    wrong = server.ask("GET", "/v1/chat/completions")
    assert wrong.status == 405
    assert "POST" in wrong.headers["allow"]


@pytest.mark.parametrize("change", [{"tokens": ["a"]}, {"tokens": [-1]}, {"tokens": [10**9]}, {"tokens": 5}, {}])
def test_tokens_that_are_none_are_refused(server, change):
    answer = server.post("/detokenize", {"model": server.model, **change})
    assert answer.status == 400
    assert answer.json()["error"]["param"].split("[")[0] == "tokens"


@pytest.mark.parametrize("change", [{"prompt": 5}, {"messages": 5}, {}])
def test_a_text_that_is_none_is_not_tokenized(server, change):
    assert server.post("/tokenize", {"model": server.model, **change}).status == 400


@pytest.mark.parametrize("header, value", [("Content-Type", "text/plain"), ("Content-Type", "multipart/form-data; boundary=x"), ("Content-Encoding", "gzip")])
def test_a_body_of_another_kind_is_415(server, header, value):
    answer = server.post("/v1/completions", {"model": server.model, **COMPLETION}, headers={header: value})
    assert answer.status == 415
    assert answer.json()["error"]["message"].startswith(f"{header} '{value.split(';')[0]}' is not served; send")


def test_a_body_is_taken_as_curl_sends_it(server):
    assert server.post("/v1/completions", {"model": server.model, **COMPLETION}, headers={"Content-Type": "application/x-www-form-urlencoded"}).status == 200
