"""What a server publishes of its prefix cache, read as vLLM's and llm-d's subscribers read it."""

import contextlib

import fleet
import grpc
import msgpack
import pytest
import serving
import zmq
from engine_stubs import common_pb2, vllm_engine_pb2_grpc

TIMEOUT_MS = 20_000
END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)
PROMPT = "The same beginning " * 20


class Subscriber:
    """A socket that is subscribed, and the number of the last message."""

    def __init__(self, context, endpoint):
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        self.socket.subscribe("kv@")
        self.socket.connect(endpoint)
        self.last = None

    def read(self):
        topic, number, payload = self.socket.recv_multipart()
        number = int.from_bytes(number, "big")
        assert self.last is None or number == self.last + 1
        self.last = number
        time, events, rank = msgpack.unpackb(payload)
        assert isinstance(time, float) and rank == 0
        return topic.decode(), events

    def read_until(self, kind):
        events = []
        while not any(event[0] == kind for event in events):
            events += self.read()[1]
        return events


@pytest.fixture
def published(model_dir):
    """A server of 64 pages that publishes, and a subscriber whose subscription has arrived."""
    ports = serving.free_ports(2)
    endpoint, replay = (f"tcp://127.0.0.1:{port}" for port in ports)
    flags = ["--kv-events", endpoint, "--kv-events-replay", replay, "--page-size", "16", "--max-context", "512"]
    with fleet.workers(model_dir, 1, flags=flags, cache="2MiB") as (server,), zmq.Context() as context:
        subscriber = Subscriber(context, endpoint)
        server.subscriber, server.replay, server.context = subscriber, replay, context
        with grpc.insecure_channel(server.grpc_address) as channel:
            server.stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
            # A subscription takes a moment: flush until the first message arrives.
            subscriber.socket.setsockopt(zmq.RCVTIMEO, 100)
            while True:
                server.stub.FlushCache(common_pb2.FlushCacheRequest())
                with contextlib.suppress(zmq.Again):
                    server.topic = subscriber.read()[0]
                    break
            subscriber.socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
            yield server
            subscriber.socket.close()


def complete(server, prompt):
    answer = server.post("/v1/completions", {"model": serving.NAME, "prompt": prompt, "max_tokens": 2, "temperature": 0, "return_token_ids": True})
    assert answer.status == 200, answer.body
    return answer.json()["choices"][0]["prompt_token_ids"]


def chain(events):
    """Hash, parent and tokens of each block that is stored."""
    blocks = []
    for kind, *fields in events:
        if kind != "BlockStored":
            continue
        hashes, parent, token_ids, block_size, lora, medium = fields
        assert (block_size, lora, medium) == (16, None, "GPU") and len(token_ids) == 16 * len(hashes)
        for i, block in enumerate(hashes):
            blocks.append((block, parent, token_ids[16 * i : 16 * (i + 1)]))
            parent = block
    return blocks


def test_the_life_of_a_prompt_in_the_cache(published):
    server = published
    assert server.topic.startswith("kv@") and server.topic.endswith(f"@{serving.NAME}")
    ids = complete(server, PROMPT)
    stored = []
    while len(chain(stored)) < len(ids) // 16:
        stored += server.subscriber.read_until("BlockStored")
    blocks = chain(stored)
    assert [token for _, _, tokens in blocks for token in tokens][: len(ids)] == ids[: 16 * len(blocks)]
    assert [parent for _, parent, _ in blocks] == [None] + [block for block, _, _ in blocks[:-1]]

    # The same again stores nothing: what comes next is of another prompt.
    complete(server, PROMPT)
    other = complete(server, "Something else altogether " * 20)
    events = server.subscriber.read_until("BlockStored")
    assert chain(events)[0][2] == other[:16]

    # Others take its place in the end.
    removed = set()
    for number in range(40):
        complete(server, f"{number} fills the cache " * 30)
    while not removed >= {block for block, _, _ in blocks}:
        for event in server.subscriber.read_until("BlockRemoved"):
            if event[0] == "BlockRemoved":
                removed |= set(event[1])

    server.stub.FlushCache(common_pb2.FlushCacheRequest())
    server.subscriber.read_until("AllBlocksCleared")
    complete(server, PROMPT)
    assert chain(server.subscriber.read_until("BlockStored"))[0][0] == blocks[0][0]  # equal tokens, equal hash


def test_who_missed_messages_asks_for_a_replay(published):
    server = published
    complete(server, PROMPT)
    events = server.subscriber.read_until("BlockStored")
    seen = server.subscriber.last
    complete(server, "Something else altogether " * 20)
    while len(chain(events)) < 2:
        events += server.subscriber.read_until("BlockStored")

    def replay(first):
        with contextlib.closing(server.context.socket(zmq.DEALER)) as socket:
            socket.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
            socket.connect(server.replay)
            socket.send_multipart([b"", first.to_bytes(8, "big")])
            while True:
                _, number, payload = socket.recv_multipart()
                if number == END_OF_REPLAY:
                    return
                yield int.from_bytes(number, "big"), msgpack.unpackb(payload)[1]

    numbers, batches = zip(*replay(seen))
    assert numbers[0] == seen and list(numbers) == list(range(seen, numbers[-1] + 1))
    assert any(event[0] == "BlockStored" for event in batches[0])
    (_, state), = replay(0)  # from the beginning: the state as it is
    assert state[0] == ["AllBlocksCleared"] and len(chain(state)) >= 2
