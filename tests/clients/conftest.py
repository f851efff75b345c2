"""What tests are given: a server for all of them, and clients of it."""

import sys

import openai
import pytest
import serving
from grpc_stubs import make_stubs


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    return serving.make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="session")
def server(model_dir):
    there = serving.server_elsewhere()
    if there:
        yield there
        return
    with serving.serve(model_dir) as started:
        yield started


def client_of(server, **options):
    options = {"max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", **options)


@pytest.fixture(scope="session")
def client(server):
    with client_of(server) as opened:
        yield opened


@pytest.fixture(scope="session")
def chat(client, server):
    """chat("text" or messages, ...): a chat completion."""

    def ask(messages, **parameters):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return client.chat.completions.create(model=server.model, messages=messages, **parameters)

    return ask


@pytest.fixture(scope="session")
def complete(client, server):
    def ask(prompt, **parameters):
        return client.completions.create(model=server.model, prompt=prompt, **parameters)

    return ask


@pytest.fixture(scope="session")
def protocol(tmp_path_factory):
    """The modules types_pb2, inference_pb2 and inference_pb2_grpc."""
    folder = tmp_path_factory.mktemp("stubs")
    yield make_stubs(folder)
    sys.path.remove(str(folder))
