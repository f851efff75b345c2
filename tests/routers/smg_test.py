"""The gateway smg in front of three servers, over vllm.grpc.engine."""

import contextlib
import io
import json
import signal
import threading
import zipfile

import grpc
import pytest
import serving
from engine_stubs import common_pb2, vllm_engine_pb2, vllm_engine_pb2_grpc

GO_ON = {"ignore_eos": True}
ONCE = {"model": serving.NAME, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


def text_of(stream):
    return "".join(event.choices[0].text for event in stream if event.choices)


def test_completions_are_those_of_a_server_asked_directly(workers, client):
    # smg leaves out the special token before a prompt.
    direct = workers[0].post("/v1/completions", {**ONCE, **GO_ON, "add_special_tokens": False}).json()["choices"][0]["text"]
    whole = client.completions.create(**ONCE, extra_body=GO_ON)
    assert whole.choices[0].text == direct
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 24
    assert text_of(client.completions.create(**ONCE, extra_body=GO_ON, stream=True)) == direct


def test_chats_stop_at_the_end_of_the_sequence_and_at_strings(client):
    messages = [{"role": "user", "content": "Hello"}]
    chat = client.chat.completions.create(model=serving.NAME, messages=messages, temperature=0, max_tokens=32)
    assert chat.choices[0].finish_reason == "stop"  # the demo model likes to end at once
    text = client.chat.completions.create(model=serving.NAME, messages=messages, temperature=0, max_tokens=32, extra_body=GO_ON)
    assert len(text.choices[0].message.content) > 4
    stop = text.choices[0].message.content[2:4]
    cut = client.chat.completions.create(model=serving.NAME, messages=messages, temperature=0, max_tokens=32, extra_body=GO_ON, stop=stop)
    assert cut.choices[0].finish_reason == "stop"
    assert stop not in (cut.choices[0].message.content or "")


def test_log_probabilities_arrive(client):
    chat = client.chat.completions.create(model=serving.NAME, messages=[{"role": "user", "content": "Hello"}], temperature=0, max_tokens=4,
                                          extra_body=GO_ON, logprobs=True, top_logprobs=2)
    entries = chat.choices[0].logprobs.content
    assert len(entries) == 4
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 2
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob)  # greedy


def test_structured_output_and_tools_are_enforced(client):
    # The penalty keeps the demo model from filling JSON with white space.
    ask = {"model": serving.NAME, "messages": [{"role": "user", "content": "Where?"}], "temperature": 0, "max_tokens": 400, "frequency_penalty": 2}
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    chat = client.chat.completions.create(**ask, response_format=schema)
    assert json.loads(chat.choices[0].message.content)["city"] in ("Oslo", "Rome")
    called = client.chat.completions.create(**ask, tools=[TOOL], tool_choice="required").choices[0]
    assert called.message.tool_calls[0].function.name == "weather"
    assert json.loads(called.message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Rome")


def test_reasoning_is_told_apart(client):
    written = {"regex": "<think>\\n(yes|no)\\n</think>(Oslo|Rome)"}
    message = client.chat.completions.create(model=serving.NAME, messages=[{"role": "user", "content": "Where?"}], temperature=0, max_tokens=100,
                                             extra_body=written).choices[0].message
    assert message.reasoning_content.strip() in ("yes", "no")
    assert message.content in ("Oslo", "Rome")


def test_bad_requests_come_back_as_such(smg):
    answer = smg.post("/v1/completions", {**ONCE, "top_k": 5000})
    assert answer.status == 400
    assert "sampling_params.top_k 5000 is outside" in answer.body.decode()


def test_prompts_go_where_their_beginning_is_cached(workers, client):
    """Round robin would send the second of three to a server that has not seen the first."""
    for number in range(4):
        beginning = f"Story {number}: " + f"chapter {number} and " * 40
        asked = []
        for end in ("one", "two", "three"):
            usage = client.completions.create(model=serving.NAME, prompt=beginning + end, max_tokens=2, temperature=0).usage
            asked.append((usage.prompt_tokens_details.cached_tokens or 0) / usage.prompt_tokens)
        assert asked[0] < 0.5 and min(asked[1:]) > 0.5, asked
    assert sum(worker.requests() > 1 for worker in workers) > 1  # and not all to one


def test_the_tokenizer_archive_holds_what_the_server_uses(workers):
    with grpc.insecure_channel(workers[0].grpc_address) as channel:
        pieces = list(vllm_engine_pb2_grpc.VllmEngineStub(channel).GetTokenizer(common_pb2.GetTokenizerRequest()))
    archive = zipfile.ZipFile(io.BytesIO(b"".join(piece.data for piece in pieces)))
    assert archive.testzip() is None
    assert len(pieces[-1].sha256) == 64
    for name in ("tokenizer.json", "config.json", "chat_template.jinja"):
        assert archive.read(name) == (workers[0].model_dir / name).read_bytes(), name


class Stream(threading.Thread):
    """A long completion, read to its end."""

    def __init__(self, router, number):
        super().__init__()
        self.router, self.number = router, number
        self.begun = threading.Event()
        self.events = []
        self.start()

    def run(self):
        body = {**ONCE, **GO_ON, "prompt": f"{self.number} {ONCE['prompt']}", "max_tokens": 3000, "stream": True}
        with contextlib.closing(serving.http.client.HTTPConnection(self.router.http_address, timeout=60)) as connection:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    self.events.append(line[6:].strip())
                    self.begun.set()

    def outcome(self):
        """"whole", or "failed" if it said so; every stream ends in one of them."""
        self.join(timeout=60)
        assert not self.is_alive() and self.events[-1] == b"[DONE]"
        last = json.loads(self.events[-2])
        return "failed" if "error" in last else "whole" if last["choices"][0]["finish_reason"] == "length" else "silent"


def held_by(worker):
    return worker.metric("mea_num_requests_running")


def test_a_server_that_dies_ends_its_streams_clearly_and_takes_no_more(workers, smg):
    streams = [Stream(smg, number) for number in range(6)]
    assert all(stream.begun.wait(60) for stream in streams)
    victim = max(workers, key=held_by)
    lost = held_by(victim)
    assert lost > 0
    victim.end(signal.SIGKILL)
    outcomes = [stream.outcome() for stream in streams]
    assert set(outcomes) == {"failed", "whole"}
    assert outcomes.count("failed") <= lost
    # New requests never meet it.
    for number in range(6):
        assert smg.post("/v1/completions", {**ONCE, "prompt": f"after {number}"}).status == 200
    victim.start()
    smg.wait_until(lambda: smg.routes_to(worker.grpc_address for worker in workers), "it is back")


def test_a_server_that_drains_finishes_its_streams_and_comes_back(workers, smg):
    streams = [Stream(smg, number) for number in range(6)]
    assert all(stream.begun.wait(60) for stream in streams)
    leaving = max(workers, key=held_by)
    assert held_by(leaving) > 0
    assert leaving.end(signal.SIGTERM) == 0
    for number in range(6):
        assert smg.post("/v1/completions", {**ONCE, "prompt": f"while it drains {number}"}).status == 200
    assert [stream.outcome() for stream in streams] == ["whole"] * 6
    leaving.start()
    smg.wait_until(lambda: smg.routes_to(worker.grpc_address for worker in workers), "it is back")

    def answers_again():
        smg.post("/v1/completions", {**ONCE, "prompt": f"{leaving.requests()} and again"})
        return leaving.requests() > 0

    smg.wait_until(answers_again, "requests reach it")
