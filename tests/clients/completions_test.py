"""Completions of plain prompts, with everything lm-eval and its like ask of them."""

import pytest
from serving import GO_ON, MAX_CONTEXT


def test_the_default_length_gives_way_to_the_context(server):
    prompt = [5] * (MAX_CONTEXT - 6)
    answer = server.post("/v1/completions", {"model": server.model, "prompt": prompt, "ignore_eos": True})
    assert answer.status == 200, answer.body
    assert answer.json()["usage"]["completion_tokens"] == 6
    short = server.post("/v1/completions", {"model": server.model, "prompt": [5], "ignore_eos": True}).json()
    assert short["usage"]["completion_tokens"] == 16


def test_a_whole_answer_has_every_field(complete, server):
    answer = complete("Once upon a time", max_tokens=8, temperature=0, extra_body=GO_ON)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == server.model
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_sixteen_tokens_are_drawn_where_nothing_is_said(complete):
    assert complete("Once upon a time", extra_body=GO_ON).usage.completion_tokens == 16


def test_a_stream_says_what_the_whole_answer_says(complete):
    parameters = {"max_tokens": 30, "temperature": 1, "seed": 4, "extra_body": GO_ON}
    whole = complete("Once upon a time", **parameters)
    chunks = list(complete("Once upon a time", stream=True, stream_options={"include_usage": True}, **parameters))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 30


def test_text_and_its_tokens_are_one_prompt(complete, server):
    tokens = server.post("/tokenize", {"model": server.model, "prompt": "Once upon a time"}).json()["tokens"]
    of_text = complete("Once upon a time", max_tokens=10, temperature=0)
    of_tokens = complete(tokens, max_tokens=10, temperature=0)
    assert of_text.choices[0].text == of_tokens.choices[0].text
    assert of_text.usage.prompt_tokens == of_tokens.usage.prompt_tokens == len(tokens)


def test_several_prompts_are_answered_in_order(complete):
    prompts = ["Once upon a time", "The capital", "12 + 30 ="]
    together = complete(prompts, max_tokens=6, temperature=0)
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    alone = [complete(prompt, max_tokens=6, temperature=0) for prompt in prompts]
    assert [choice.text for choice in together.choices] == [answer.choices[0].text for answer in alone]
    assert together.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in alone)


def test_several_prompts_of_tokens_are_answered_in_order(complete, server):
    prompts = [server.tokens(text) for text in ("Once upon", "The capital of")]
    together = complete(prompts, max_tokens=6, temperature=0)
    assert [choice.text for choice in together.choices] == [complete(prompt, max_tokens=6, temperature=0).choices[0].text for prompt in prompts]


def test_several_prompts_are_streamed_by_index(complete):
    texts = {0: "", 1: ""}
    for chunk in complete(["Once upon", "The capital"], max_tokens=6, temperature=0, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts[0] == complete("Once upon", max_tokens=6, temperature=0).choices[0].text
    assert texts[1] == complete("The capital", max_tokens=6, temperature=0).choices[0].text


def test_choices_of_several_prompts_are_counted_through(complete):
    answer = complete(["Once upon", "The capital"], n=2, max_tokens=4, temperature=1, seed=1, extra_body=GO_ON)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.completion_tokens == 16


def test_logprobs_line_up_with_tokens(complete):
    answer = complete("Once upon a time", max_tokens=10, temperature=0, logprobs=3, extra_body=GO_ON).choices[0]
    logprobs = answer.logprobs
    assert "".join(logprobs.tokens) == answer.text
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset) == 10
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert 3 <= len(top) <= 4
        assert top[token] == pytest.approx(logprob, abs=1e-4)
        assert logprob == pytest.approx(max(top.values()), abs=1e-4)
    offset = 0
    for token, start in zip(logprobs.tokens, logprobs.text_offset):
        assert start == offset
        offset += len(token)


def test_an_echo_carries_the_logprobs_of_the_prompt(complete, server):
    """As lm-eval scores a continuation: one token drawn, echo, logprobs, tokens for a prompt."""
    tokens = server.tokens("Once upon a time there was")
    answer = complete(tokens, max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234).choices[0]
    logprobs = answer.logprobs
    assert len(logprobs.token_logprobs) == len(tokens) + 1
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    for logprob, top in list(zip(logprobs.token_logprobs, logprobs.top_logprobs))[1:]:
        assert logprob <= max(top.values())
        if logprob > max(top.values()) - 1e-5:
            assert logprob == max(top.values())  # lm-eval calls a token greedy where both are equal to the last digit
    assert answer.text.startswith("Once upon a time there was")


def test_an_echo_that_ends_at_once_still_has_an_entry_for_the_end(complete, server):
    """lm-eval drops the last entry as the drawn token's: without one for the end it would drop a token of the prompt."""
    tokens = server.tokens("Once upon a time there was")
    answer = complete(tokens, max_tokens=1, temperature=0, logprobs=1, echo=True, logit_bias={"0": 100}).choices[0]
    assert answer.finish_reason == "stop"
    assert len(answer.logprobs.token_logprobs) == len(tokens) + 1


def test_a_prompt_is_scored_as_it_was_drawn(complete, server):
    """What greedy drawing reported token by token, an echo of the same tokens reports again."""
    drawn = complete("Once upon a time", max_tokens=12, temperature=0, logprobs=1, extra_body={**GO_ON, "return_token_ids": True}).choices[0]
    prompt = server.post("/tokenize", {"model": server.model, "prompt": "Once upon a time"}).json()["tokens"]
    echoed = complete(prompt + drawn.token_ids, max_tokens=1, echo=True, logprobs=1).choices[0]
    assert echoed.logprobs.token_logprobs[len(prompt) : len(prompt) + 12] == pytest.approx(drawn.logprobs.token_logprobs, abs=2e-2)


def test_an_echo_may_be_all(complete):
    answer = complete("Once upon a time", max_tokens=0, echo=True, logprobs=1)
    assert answer.choices[0].text == "Once upon a time"
    assert answer.usage.completion_tokens == 0
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.prompt_tokens


def test_an_echo_is_streamed_first(complete):
    chunks = list(complete("Once upon a time", max_tokens=5, temperature=0, echo=True, stream=True))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == complete("Once upon a time", max_tokens=5, temperature=0, echo=True).choices[0].text
    assert text.startswith("Once upon a time")


def test_a_stop_token_ends_and_is_left_out(complete):
    drawn = complete("Once upon a time", max_tokens=12, temperature=0, extra_body={**GO_ON, "return_token_ids": True}).choices[0]
    stop = drawn.token_ids[6]
    choice = complete("Once upon a time", max_tokens=12, temperature=0, extra_body={**GO_ON, "stop_token_ids": [stop]}).choices[0]
    assert choice.finish_reason == "stop"
    assert drawn.text.startswith(choice.text)
    assert len(choice.text) < len(drawn.text)


def test_a_stop_token_stays_in_the_text_where_asked_for(complete):
    drawn = complete("Once upon a time", max_tokens=12, temperature=0, extra_body={**GO_ON, "return_token_ids": True}).choices[0]
    stop = {**GO_ON, "return_token_ids": True, "stop_token_ids": [drawn.token_ids[6]]}
    without = complete("Once upon a time", max_tokens=12, temperature=0, extra_body=stop).choices[0]
    kept = complete("Once upon a time", max_tokens=12, temperature=0, extra_body={**stop, "include_stop_str_in_output": True}).choices[0]
    assert len(kept.token_ids) == len(without.token_ids) + 1
    assert kept.text.startswith(without.text) and len(kept.text) > len(without.text)
    assert drawn.text.startswith(kept.text)


def test_min_tokens_hold_a_stop_string_off(complete):
    drawn = complete("Once upon a time", max_tokens=12, temperature=0, extra_body=GO_ON).choices[0].text
    stop = drawn.strip()[0]
    early = complete("Once upon a time", max_tokens=12, temperature=0, stop=stop, extra_body=GO_ON).choices[0].text
    held = complete("Once upon a time", max_tokens=12, temperature=0, stop=stop, extra_body={**GO_ON, "min_tokens": 3}).choices[0].text
    assert stop not in early
    assert held.startswith(early + stop)


def test_min_tokens_hold_a_stop_token_off(complete):
    ids = {**GO_ON, "return_token_ids": True}
    drawn = complete("Once upon a time", max_tokens=12, temperature=0, extra_body=ids).choices[0].token_ids
    held = complete("Once upon a time", max_tokens=12, temperature=0, extra_body={**ids, "stop_token_ids": [drawn[0]], "min_tokens": 5})
    assert held.usage.completion_tokens >= 5
    assert drawn[0] not in held.choices[0].token_ids[:5]


def test_the_context_bounds_what_is_drawn_by_default(client, server, complete):
    context = client.models.list().data[0].max_model_len
    prompt = server.tokens("word ")[:1] * (context - 3)
    choice = complete(prompt, max_tokens=3, extra_body=GO_ON).choices[0]
    assert choice.finish_reason == "length"


def test_chat_models_complete_too(complete):
    assert complete("2 + 2 =", max_tokens=2).choices[0].text is not None
