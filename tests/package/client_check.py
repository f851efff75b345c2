"""The package `mea` of the wheel, against the program of the wheel.

    client_check.py MEA SOURCE_DIRECTORY VERSION
"""

import asyncio
import contextlib
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import grpc
import mea
import mea._client
import mea._parameters
from mea.v1 import control_pb2, inference_pb2, types_pb2

PROGRAM, SOURCE, VERSION = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
PROMPT = "The code of Uma is 29.\nThe code of Tess is 91.\nWhat is the code of Tess?"
GREEDY = {"temperature": 0.0, "max_tokens": 12, "ignore_eos": True}
MESSAGES = [{"role": "user", "content": "Hello"}]


@contextlib.contextmanager
def served(model, *flags):
    """`mea serve` of the wheel, on a free port; yields its address."""
    command = [PROGRAM, "serve", str(model), "--listen", "127.0.0.1:0", "--http", "off", "--admin", "off", "--kv-cache-bytes", "16MiB", "--log-format", "json"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") == "ready":
                    yield event["listen"]
                    break
            else:
                raise AssertionError(f"{' '.join(command)} ended with {process.wait()}")
        finally:
            process.terminate()
            process.stderr.close()
    assert process.returncode == 0, f"the server ended with {process.returncode}"  # it is the process that was started: SIGTERM drains it


def text_of(events):
    return "".join(event.delta.text for event in events)


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        model = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        shutil.copytree(SOURCE / "models/demo-mea", model)
        shutil.copy(SOURCE / "tests/clients/chat_template.jinja", model)
        cls.address = stack.enter_context(served(model))
        cls.client = stack.enter_context(mea.Client(cls.address))

    def test_the_program_and_the_package_have_the_version_of_the_build(self):
        self.assertEqual(importlib.metadata.version("mea-server"), VERSION)
        for command in ([PROGRAM], [sys.executable, "-m", "mea"]):
            self.assertEqual(subprocess.check_output([*command, "--version"], text=True).strip(), VERSION)
        self.assertEqual(self.client.control.GetServerInfo(control_pb2.GetServerInfoRequest()).version, VERSION)

    def test_a_text_is_completed(self):
        (completion,) = self.client.generate(PROMPT, **GREEDY).completions
        self.assertIn("91", completion.text)
        self.assertEqual(len(completion.token_ids), 12)

    def test_tokens_are_completed_as_their_text_is(self):
        answer = self.client.generate(PROMPT, prompt_token_ids=True, **GREEDY)
        again = self.client.generate(list(answer.prompt.token_ids), **GREEDY)
        self.assertEqual(list(again.completions[0].token_ids), list(answer.completions[0].token_ids))

    def test_a_stream_brings_the_same_text(self):
        events = list(self.client.stream(PROMPT, **GREEDY))
        self.assertEqual([event.WhichOneof("event") for event in events][:: len(events) - 1], ["prompt", "finish"])
        self.assertEqual(text_of(events), self.client.generate(PROMPT, **GREEDY).completions[0].text)

    def test_a_conversation_is_answered_and_streamed(self):
        answer = self.client.chat(MESSAGES, **GREEDY).completions[0].reply.content
        self.assertEqual("".join(event.delta.reply.content for event in self.client.stream_chat(MESSAGES, **GREEDY)), answer)

    def test_a_schema_may_be_a_dictionary(self):
        answer = self.client.chat(MESSAGES, max_tokens=9, json_schema={"const": 7})
        self.assertEqual(answer.completions[0].reply.content.strip(), "7")
        self.assertEqual(self.client.generate(PROMPT, choice=["blue"], max_tokens=9).completions[0].text, "blue")

    def test_the_asynchronous_client_says_the_same(self):
        async def ask():
            async with mea.AsyncClient(self.address) as client:
                whole, chat = await asyncio.gather(client.generate(PROMPT, **GREEDY), client.chat(MESSAGES, **GREEDY))
                events = [event async for event in client.stream(PROMPT, **GREEDY)]
                chat_events = [event async for event in client.stream_chat(MESSAGES, **GREEDY)]
                return whole.completions[0].text, text_of(events), chat.completions[0].text, text_of(chat_events)

        whole = self.client.generate(PROMPT, **GREEDY).completions[0].text
        chat = self.client.chat(MESSAGES, **GREEDY).completions[0].text
        self.assertEqual(asyncio.run(ask()), (whole, whole, chat, chat))

    def test_a_refusal_names_the_field(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.client.generate(PROMPT, temperature=9.0)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("temperature", raised.exception.details())


class RequestTest(unittest.TestCase):
    def test_every_field_of_the_interface_has_a_typed_parameter(self):
        fields = {field.name for field in inference_pb2.GenerateRequest.DESCRIPTOR.fields} - {"text", "token_ids", "chat"}
        for part in ("sampling", "stopping", "response", "cache", "structured_output"):
            fields.remove(part)
            message = inference_pb2.GenerateRequest.DESCRIPTOR.fields_by_name[part].message_type
            self.assertFalse(fields & {field.name for field in message.fields}, "a name in two parts")
            fields |= {field.name for field in message.fields}
        chat = {field.name for field in types_pb2.Chat.DESCRIPTOR.fields} - {"messages"}
        of_texts = {"add_special_tokens", "parse_special"}
        named = [set(kind.__annotations__) for kind in (mea._parameters.TextParameters, mea._parameters.ChatParameters)]
        self.assertEqual(named, [fields, fields - of_texts | chat])

    def test_parameters_reach_the_part_they_belong_to(self):
        request = mea.chat_request(MESSAGES, temperature=0.5, stop=["x"], logprobs=2, cache_salt="s", model="m", tools=[{"type": "function"}], tool_choice="required")
        self.assertEqual((request.sampling.temperature, list(request.stopping.stop), request.response.logprobs), (0.5, ["x"], 2))
        self.assertEqual((request.cache.cache_salt, request.model), ("s", "m"))
        self.assertEqual(json.loads(request.chat.messages[0].json), MESSAGES[0])
        self.assertEqual((list(request.chat.tools), request.chat.tool_choice), (['{"type": "function"}'], types_pb2.TOOL_CHOICE_REQUIRED))

    def test_a_parameter_that_does_not_exist_is_named(self):
        with self.assertRaisesRegex(TypeError, "no parameter 'temprature'"):
            mea.generate_request("x", temprature=1)


class EndlessCall:
    """A stream of gRPC's, either kind."""

    cancelled = False

    def __iter__(self):
        while True:
            yield "event"

    async def __aiter__(self):
        for event in self:
            yield event

    def cancel(self):
        self.cancelled = True


class StreamTest(unittest.TestCase):
    def test_leaving_a_stream_cancels_the_call(self):
        call = EndlessCall()
        events = mea._client._events(call)
        self.assertEqual((next(events), call.cancelled), ("event", False))
        events.close()
        self.assertTrue(call.cancelled)

    def test_leaving_an_asynchronous_stream_cancels_the_call(self):
        async def leave(call):
            events = mea._client._async_events(call)
            first = await events.__anext__()
            await events.aclose()
            return first

        call = EndlessCall()
        self.assertEqual((asyncio.run(leave(call)), call.cancelled), ("event", True))


class TransformersTest(unittest.TestCase):
    def test_transformers_is_wanted_only_where_it_is_used(self):
        import mea.hf

        self.assertNotIn("transformers", sys.modules)
        with self.assertRaisesRegex(ImportError, "transformers|torch"):
            mea.hf.MeaForCausalLM


unittest.main(argv=[sys.argv[0], "-v"])
