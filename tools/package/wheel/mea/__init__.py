"""mea: the inference server `mea`, and its gRPC client.

    with mea.Client("127.0.0.1:50051") as client:
        answer = client.chat([{"role": "user", "content": "Hello"}], max_tokens=64)
        print(answer.completions[0].reply.content)
        for event in client.stream("Once upon a time", temperature=0):
            print(event.delta.text, end="")

Requests and answers are the messages of `mea.v1`. `mea.hf` has MEA checkpoints in transformers.
"""

from mea._client import AsyncClient, Client
from mea._parameters import ChatParameters, Parameters
from mea._program import program_path
from mea._requests import chat_request, generate_request

__all__ = ["AsyncClient", "ChatParameters", "Client", "Parameters", "chat_request", "generate_request", "program_path"]
