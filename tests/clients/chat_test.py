"""Chat completions, whole and streamed."""

import math
import uuid

import pytest
from serving import GO_ON


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_whole_answer_has_every_field(chat, server):
    answer = chat("Hello", max_completion_tokens=8, extra_body=GO_ON)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == server.model
    assert answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "length", "assistant")
    assert isinstance(choice.message.content, str)
    assert choice.message.tool_calls is None
    assert choice.logprobs is None


def test_usage_adds_up(chat):
    usage = chat("Hello", max_completion_tokens=8, extra_body=GO_ON).usage
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens == 8
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_usage_tells_what_the_cache_took(chat):
    cache = chat("Hello", max_completion_tokens=8).usage.kv_cache
    assert 0 < cache["bytes"]
    assert cache["bytes_uncompressed"] == 2 * cache["bytes"]


def test_a_prompt_seen_before_is_counted_as_cached(chat):
    question = f"A sentence that nobody else sends, {uuid.uuid4()}, and of some length. " * 8
    first = chat(question, max_completion_tokens=4).usage
    second = chat(question, max_completion_tokens=4).usage
    assert first.prompt_tokens_details.cached_tokens < second.prompt_tokens_details.cached_tokens <= second.prompt_tokens
    salted = chat(question, max_completion_tokens=4, extra_body={"cache_salt": "another tenant"}).usage
    assert salted.prompt_tokens_details.cached_tokens == 0


def test_max_tokens_is_the_older_name(chat):
    assert chat("Hello", max_tokens=5, extra_body=GO_ON).usage.completion_tokens == 5


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(chat):
    chunks = list(chat("Hello", max_completion_tokens=12, stream=True, extra_body=GO_ON))
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_says_what_the_whole_answer_says(chat):
    parameters = {"max_completion_tokens": 40, "temperature": 1, "seed": 11, "extra_body": GO_ON}
    whole = chat("Tell me", **parameters)
    assert text_of(chat("Tell me", stream=True, **parameters)) == whole.choices[0].message.content


def test_usage_comes_last_where_it_was_asked_for(chat):
    chunks = list(chat("Hello", max_completion_tokens=6, stream=True, stream_options={"include_usage": True}, extra_body=GO_ON))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 6
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_server_sent_events_end_with_done(server):
    body = {"model": server.model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "stream": True}
    answer = server.post("/v1/chat/completions", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])


def test_several_choices_are_as_requests_of_their_own(chat):
    parameters = {"max_completion_tokens": 10, "temperature": 1, "extra_body": GO_ON}
    answer = chat("Hello", n=2, seed=21, **parameters)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        alone = chat("Hello", seed=21 + choice.index, **parameters)
        assert alone.choices[0].message.content == choice.message.content
    assert answer.usage.completion_tokens == 20


def test_several_choices_are_streamed_side_by_side(chat):
    chunks = list(chat("Hello", n=2, max_completion_tokens=10, stream=True, extra_body=GO_ON))
    for index in (0, 1):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices and chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert own[-1].finish_reason == "length"


def test_the_same_seed_draws_the_same(chat):
    draws = [chat("Hello", max_completion_tokens=24, temperature=1, seed=seed, extra_body=GO_ON).choices[0].message.content for seed in (5, 5, 6)]
    assert draws[0] == draws[1] != draws[2]


def test_a_stop_string_ends_the_answer_and_is_left_out(chat):
    parameters = {"max_completion_tokens": 40, "temperature": 0, "extra_body": GO_ON}
    whole = chat("Hello", **parameters).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    choice = chat("Hello", stop=[stop, "never said"], **parameters).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content == whole[: whole.index(stop)]
    streamed = list(chat("Hello", stop=stop, stream=True, **parameters))
    assert text_of(streamed) == whole[: whole.index(stop)]
    assert streamed[-1].choices[0].finish_reason == "stop"
    parameters["extra_body"] = {**GO_ON, "include_stop_str_in_output": True}
    assert chat("Hello", stop=stop, **parameters).choices[0].message.content == whole[: whole.index(stop)] + stop


def test_logprobs_have_a_token_its_bytes_and_alternatives(chat):
    answer = chat("Hello", max_completion_tokens=12, temperature=0, logprobs=True, top_logprobs=3, extra_body=GO_ON).choices[0]
    entries = answer.logprobs.content
    assert len(entries) == 12
    spelled = b"".join(bytes(entry.bytes or []) for entry in entries)
    assert spelled.replace(b"<|endoftext|>", b"").decode(errors="replace") == answer.message.content
    for entry in entries:
        assert entry.logprob <= 0
        assert [top.logprob for top in entry.top_logprobs] == sorted((top.logprob for top in entry.top_logprobs), reverse=True)
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert math.isclose(entry.top_logprobs[0].logprob, entry.logprob, abs_tol=1e-4)


def test_streamed_logprobs_are_those_of_the_whole_answer(chat):
    parameters = {"max_completion_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 2, "extra_body": GO_ON}
    whole = chat("Hello", **parameters).choices[0].logprobs.content
    streamed = []
    for chunk in chat("Hello", stream=True, **parameters):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [entry.token for entry in streamed] == [entry.token for entry in whole]
    assert [entry.logprob for entry in streamed] == pytest.approx([entry.logprob for entry in whole], abs=1e-4)


def test_logprobs_without_alternatives_list_none(chat):
    entries = chat("Hello", max_completion_tokens=3, logprobs=True, extra_body=GO_ON).choices[0].logprobs.content
    assert [entry.top_logprobs for entry in entries] == [[], [], []]


def test_characters_of_several_tokens_arrive_whole(chat):
    text = "naïve 日本語 😀👍🏽 Ωμέγα"
    stream = chat("Say it", stream=True, max_completion_tokens=200, extra_body={"structured_outputs": {"choice": [text]}})
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)  # how many there are is the machine's affair


def test_text_in_parts_is_text(chat):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]
    answer = chat(parts, max_completion_tokens=8, temperature=0, extra_body=GO_ON)
    assert answer.usage.prompt_tokens > 0
    assert answer.choices[0].message.content


def test_template_arguments_reach_the_template(chat):
    plain = chat("Hello", max_completion_tokens=1).usage.prompt_tokens
    longer = chat("Hello", max_completion_tokens=1, extra_body={"chat_template_kwargs": {"opening": "It is said that"}})
    assert longer.usage.prompt_tokens > plain


def test_an_answer_that_was_begun_is_continued(chat, server):
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Once upon"}]
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    rendered = server.post("/tokenize", {"model": server.model, "messages": messages, **flags}).json()["tokens"]
    ending = server.post("/detokenize", {"model": server.model, "tokens": rendered}).json()["prompt"]
    assert ending.endswith("Once upon")
    assert chat(messages, max_completion_tokens=4, extra_body=flags).usage.prompt_tokens == len(rendered)


def test_token_ids_are_returned_where_asked_for(chat, server):
    answer = chat("Hello", max_completion_tokens=6, extra_body={**GO_ON, "return_token_ids": True})
    messages = [{"role": "user", "content": "Hello"}]
    assert answer.prompt_token_ids == server.post("/tokenize", {"model": server.model, "messages": messages}).json()["tokens"]
    assert len(answer.choices[0].token_ids) == 6


def test_prompt_logprobs_have_one_entry_per_token(chat):
    answer = chat("Hello", max_completion_tokens=2, extra_body={"prompt_logprobs": 2})
    assert len(answer.prompt_logprobs) == answer.usage.prompt_tokens
    assert answer.prompt_logprobs[0] is None
    for entry in answer.prompt_logprobs[1:]:
        assert len(entry) in (2, 3)  # the token itself is one of the likely ones, or stands beside them
        assert all(top["logprob"] <= 0 for top in entry.values())


@pytest.mark.parametrize("extension", [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.2}, {"ignore_eos": True}, {"priority": 3},
                                       {"min_tokens": 4}, {"skip_special_tokens": True}, {"request_id": "named-by-me"}])
def test_sampling_extensions_are_taken(chat, extension):
    assert chat("Hello", max_completion_tokens=6, temperature=1, extra_body=extension).usage.completion_tokens >= 1


def test_one_token_left_makes_sampling_greedy(chat):
    greedy = chat("Hello", max_completion_tokens=16, temperature=0, extra_body=GO_ON).choices[0].message.content
    drawn = chat("Hello", max_completion_tokens=16, temperature=1, seed=3, extra_body={**GO_ON, "top_k": 1})
    assert drawn.choices[0].message.content == greedy


def test_logit_bias_can_force_a_token(chat, server):
    (token, *_) = server.tokens("a")
    assert chat("Hello", max_completion_tokens=5, temperature=0, logit_bias={str(token): 100}, extra_body=GO_ON).choices[0].message.content == "aaaaa"


def test_unknown_fields_are_ignored(chat):
    unknown = {**GO_ON, "some_field_of_tomorrow": {"a": [1]}}
    answer = chat("Hello", max_completion_tokens=3, extra_body=unknown, metadata={"k": "v"}, user="me", store=False)
    assert answer.usage.completion_tokens == 3


def test_the_request_id_is_echoed(server):
    body = {"model": server.model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    answer = server.post("/v1/chat/completions", body, headers={"X-Request-Id": "trace-me-17"})
    assert answer.headers["x-request-id"] == "trace-me-17"
    assert server.post("/v1/chat/completions", body).headers["x-request-id"]
