"""vllm-router in front of three servers, over HTTP."""

import fleet
import openai
import pytest
import serving


@pytest.fixture(scope="module")
def client(workers):
    with fleet.vllm_router(workers) as router, openai.OpenAI(base_url=router.url + "/v1", api_key="none", max_retries=0, timeout=60) as opened:
        yield opened


def test_it_routes_completions_and_chats_whole_and_streamed(client):
    ask = {"model": serving.NAME, "temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}
    whole = client.completions.create(prompt="Once upon a time", **ask).choices[0].text
    pieces = client.completions.create(prompt="Once upon a time", **ask, stream=True)
    assert "".join(event.choices[0].text for event in pieces if event.choices) == whole
    messages = [{"role": "user", "content": "Hello"}]
    whole = client.chat.completions.create(messages=messages, **ask).choices[0].message.content
    pieces = client.chat.completions.create(messages=messages, **ask, stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in pieces if event.choices) == whole


def test_it_sends_equal_beginnings_to_one_server(client):
    beginning = "The same beginning " * 40
    cached = []
    for end in ("one", "two", "three", "four"):
        usage = client.completions.create(model=serving.NAME, prompt=beginning + end, max_tokens=2, temperature=0).usage
        cached.append(usage.prompt_tokens_details.cached_tokens / usage.prompt_tokens)
    assert min(cached[1:]) > 0.5, cached
