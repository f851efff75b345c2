"""What is served, tokens, health."""

import openai
import pytest


def test_the_list_names_the_model_and_its_context(client, server):
    models = client.models.list().data
    assert [model.id for model in models] == [server.model]
    assert models[0].object == "model"
    assert models[0].created > 1_700_000_000
    assert models[0].max_model_len > 0


def test_a_model_is_found_by_its_name(client, server):
    assert client.models.retrieve(server.model).id == server.model


def test_an_unknown_model_is_404_everywhere(client):
    calls = [
        lambda: client.models.retrieve("nobody"),
        lambda: client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}]),
        lambda: client.completions.create(model="nobody", prompt="x"),
        lambda: client.responses.create(model="nobody", input="x"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as raised:
            call()
        assert raised.value.code == "model_not_found"
        assert raised.value.param == "model"
        assert "nobody" in raised.value.message


def test_tokens_become_the_text_they_came_from(server):
    text = "Once upon a time: 12 + 34 = 46. naïve 日本 😀"
    answer = server.post("/tokenize", {"model": server.model, "prompt": text, "add_special_tokens": False}).json()
    assert answer["count"] == len(answer["tokens"]) > 0
    assert answer["max_model_len"] > 0
    back = server.post("/detokenize", {"model": server.model, "tokens": answer["tokens"]}).json()
    assert back["prompt"] == text


def test_a_conversation_is_tokenized_as_chat_would(server, chat):
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    count = server.post("/tokenize", {"model": server.model, "messages": messages}).json()["count"]
    assert chat(messages, max_completion_tokens=1).usage.prompt_tokens == count
    shorter = server.post("/tokenize", {"model": server.model, "messages": messages, "add_generation_prompt": False}).json()
    assert shorter["count"] < count


def test_token_strings_stand_beside_ids_where_asked_for(server):
    answer = server.post("/tokenize", {"model": server.model, "prompt": "Hello there", "return_token_strs": True}).json()
    assert len(answer["token_strs"]) == len(answer["tokens"])


def test_the_tokenizer_tells_its_chat_template(server):
    info = server.ask("GET", "/tokenizer_info")
    assert info.status == 200
    assert "messages" in info.json()["chat_template"]


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_a_healthy_server_says_so(server, path):
    assert server.ask("GET", path).status == 200


def test_the_version_is_told(server):
    assert server.ask("GET", "/version").json()["version"]


def test_metrics_are_prometheus_text(server):
    answer = server.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"# HELP" in answer.body


def test_the_description_names_every_path(server):
    description = server.ask("GET", "/openapi.json").json()
    assert description["openapi"].startswith("3.")
    expected = {"/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/responses", "/tokenize", "/detokenize", "/health"}
    assert expected <= set(description["paths"])
