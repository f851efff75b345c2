"""Clients of one server, synchronous and asynchronous."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any, AsyncIterator, Iterator, Mapping, Sequence

import grpc
import grpc.aio

from mea._requests import chat_request, generate_request
from mea.v1 import control_pb2_grpc, inference_pb2, inference_pb2_grpc

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from mea._parameters import ChatParameters, TextParameters

DEFAULT_ADDRESS = "127.0.0.1:50051"
# An answer is as long as was asked for; gRPC would end it at 4 MiB.
_OPTIONS = (("grpc.max_receive_message_length", -1),)


class _Access:
    """How to reach a server: the arguments of both clients."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        tls: bool = False,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """`api_key`: else MEA_API_KEY of the environment. `tls`: on by itself with any of the PEM files: whom to trust, and for servers
        that ask for it a certificate with its key. `timeout`: seconds that a call may take, unless it says otherwise."""
        key = api_key or os.environ.get("MEA_API_KEY")
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._address = address
        self._credentials = None
        if tls or tls_ca or tls_cert:
            files = (file and pathlib.Path(file).read_bytes() for file in (tls_ca, tls_key, tls_cert))
            self._credentials = grpc.ssl_channel_credentials(*files)

    def _call(self, timeout: float | None) -> dict[str, Any]:
        return {"timeout": self._timeout if timeout is None else timeout, "metadata": self._metadata}


class Client(_Access):
    """Calls raise grpc.RpcError: code() and details() say what was wrong. To be used from any number of threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._credentials:
            self.channel = grpc.secure_channel(self._address, self._credentials, _OPTIONS)
        else:
            self.channel = grpc.insecure_channel(self._address, _OPTIONS)
        self.inference = inference_pb2_grpc.InferenceStub(self.channel)  # every method of the services
        self.control = control_pb2_grpc.ControlStub(self.channel)

    def generate(self, prompt: str | Sequence[int], *, timeout: float | None = None, **parameters: Unpack[TextParameters]) -> inference_pb2.GenerateResponse:
        """Completes a text, or tokens."""
        return self.inference.Generate(generate_request(prompt, **parameters), **self._call(timeout))

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Unpack[ChatParameters]
    ) -> inference_pb2.GenerateResponse:
        """Answers a conversation: completions[0].reply has content, reasoning and tool_calls."""
        return self.inference.Generate(chat_request(messages, **parameters), **self._call(timeout))

    def stream(
        self, prompt: str | Sequence[int], *, timeout: float | None = None, **parameters: Unpack[TextParameters]
    ) -> Iterator[inference_pb2.GenerateStreamResponse]:
        """The same, event by event: a prompt, deltas, a finish for each completion. Leaving the loop ends the request."""
        return _events(self.inference.GenerateStream(generate_request(prompt, **parameters), **self._call(timeout)))

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Unpack[ChatParameters]
    ) -> Iterator[inference_pb2.GenerateStreamResponse]:
        """A conversation, event by event."""
        return _events(self.inference.GenerateStream(chat_request(messages, **parameters), **self._call(timeout)))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Access):
    """The same for asyncio; to be made in its event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._credentials:
            self.channel = grpc.aio.secure_channel(self._address, self._credentials, _OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(self._address, _OPTIONS)
        self.inference = inference_pb2_grpc.InferenceStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)

    async def generate(
        self, prompt: str | Sequence[int], *, timeout: float | None = None, **parameters: Unpack[TextParameters]
    ) -> inference_pb2.GenerateResponse:
        return await self.inference.Generate(generate_request(prompt, **parameters), **self._call(timeout))

    async def chat(
        self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Unpack[ChatParameters]
    ) -> inference_pb2.GenerateResponse:
        return await self.inference.Generate(chat_request(messages, **parameters), **self._call(timeout))

    def stream(
        self, prompt: str | Sequence[int], *, timeout: float | None = None, **parameters: Unpack[TextParameters]
    ) -> AsyncIterator[inference_pb2.GenerateStreamResponse]:
        return _async_events(self.inference.GenerateStream(generate_request(prompt, **parameters), **self._call(timeout)))

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Unpack[ChatParameters]
    ) -> AsyncIterator[inference_pb2.GenerateStreamResponse]:
        return _async_events(self.inference.GenerateStream(chat_request(messages, **parameters), **self._call(timeout)))

    async def close(self) -> None:
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _events(call: Any) -> Iterator[inference_pb2.GenerateStreamResponse]:
    try:
        yield from call
    finally:
        call.cancel()


async def _async_events(call: Any) -> AsyncIterator[inference_pb2.GenerateStreamResponse]:
    try:
        async for event in call:
            yield event
    finally:
        call.cancel()
