"""What strangers do to a server, one function per kind: each makes one call and returns how it ended, as the
client saw it: "ok", a status it expects ("408", "429", "CANCELLED"), or "unexpected: ...".

All take (server, rng); they hold a connection of their own, as clients in different places would."""

import http.client
import json
import socket
import time

import grpc

PATIENCE_S = 120
# Ends that a loaded server may give any request.
BUSY = {"429", "503", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}


def body_of(server, rng, **more):
    words = [rng.choice(["red", "blue", "Uma", "Tess", "29", "code", "what", "is", "the"]) for _ in range(rng.randint(1, 60))]
    return {"model": server.model, "messages": [{"role": "user", "content": " ".join(words)}], "max_tokens": rng.randint(1, 60),
            "temperature": rng.choice([0, 0.7, 1]), "seed": rng.randint(0, 9), "ignore_eos": True, **more}


def exchange(server, body, path="/v1/chat/completions", headers=None, timeout=PATIENCE_S):
    connection = http.client.HTTPConnection(server.http_address, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def end_of(status, body, expected=()):
    if status == 200:
        return "ok"
    name = str(status)
    return name if name in BUSY or name in expected else f"unexpected: {name} {body[:200]!r}"


def chat(server, rng):
    body = body_of(server, rng, n=rng.choice([1, 1, 1, 3]), logprobs=rng.random() < 0.3)
    # A deadline that holds, whatever is done to the clock meanwhile.
    status, body = exchange(server, body, headers={"X-Request-Timeout": f"{PATIENCE_S}"} if rng.random() < 0.5 else None)
    if status == 200:
        choices = json.loads(body)["choices"]
        if any(choice["finish_reason"] != "length" for choice in choices):
            return f"unexpected: {choices}"
    return end_of(status, body)


def stream(server, rng):
    status, body = exchange(server, body_of(server, rng, stream=True))
    if status == 200 and not body.endswith(b"data: [DONE]\n\n"):
        return f"unexpected: a stream ends with {body[-200:]!r}"
    return end_of(status, body)


def structured(server, rng):
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"],
              "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": f"s{rng.randint(0, 50)}", "strict": True, "schema": {**schema, "title": str(rng.randint(0, 50))}}}
    body = body_of(server, rng, response_format=form)
    body.update(max_tokens=400, ignore_eos=False)
    status, answer = exchange(server, body)
    if status == 200:
        choice = json.loads(answer)["choices"][0]
        if choice["finish_reason"] == "stop":
            json.loads(choice["message"]["content"])
    return end_of(status, answer)


def refused(server, rng):
    change = rng.choice([{"temperature": 9}, {"max_tokens": -1}, {"messages": "x"}, {"top_p": 0}, {"model": "nobody"}, {"n": 0}])
    status, body = exchange(server, {**body_of(server, rng), **change})
    return end_of(status, body, expected=("400", "404")) if status != 200 else "unexpected: 200"


def garbage(server, rng):
    """Bytes that are no request; the server answers 4xx or closes."""
    with socket.create_connection(address_of(server.http_address), timeout=PATIENCE_S) as connection:
        connection.sendall(rng.randbytes(rng.randint(1, 4000)) + b"\r\n\r\n")
        answer = connection.recv(100)
    return "400" if not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 5")) else f"unexpected: {answer!r}"


def deadline(server, rng):
    status, body = exchange(server, body_of(server, rng), headers={"X-Request-Timeout": f"{rng.uniform(0.001, 0.05):.4f}"})
    return end_of(status, body, expected=("408",))


def leaving(server, rng):
    """Goes in the middle of a stream, or before it."""
    data = json.dumps(body_of(server, rng, stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    is_whole = rng.random() < 0.7
    with socket.create_connection(address_of(server.http_address), timeout=PATIENCE_S) as connection:
        connection.sendall(head + data[: len(data) if is_whole else len(data) // 2])
        connection.settimeout(rng.uniform(0, 0.3) + 1e-3)
        try:
            connection.recv(rng.randint(1, 2000))
        except TimeoutError:
            pass
    return "left" if is_whole else "left before asking"


def stuck(server, rng):
    """Asks for a stream and reads nothing of it for a while."""
    data = json.dumps(body_of(server, rng, stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(PATIENCE_S)
        connection.connect(address_of(server.http_address))
        connection.sendall(head + data)
        time.sleep(rng.uniform(1, 20))
    return "left"


def connections(server, rng):
    """A storm of connections that say nothing."""
    held = []
    try:
        for _ in range(rng.randint(50, 200)):
            held.append(socket.create_connection(address_of(rng.choice([server.http_address, server.grpc_address])), timeout=PATIENCE_S))
        time.sleep(rng.uniform(0, 0.5))
    finally:
        for connection in held:
            connection.close()
    return "left"


def grpc_stream(server, rng):
    """One of the RPCs, sometimes cancelled, sometimes with a deadline that cannot hold."""
    _, inference, stubs = server.stubs
    request = inference.GenerateRequest(text="The code of Uma is 29. " * rng.randint(1, 20))
    request.stopping.max_tokens = rng.randint(1, 60)
    request.stopping.ignore_eos = True
    how = rng.choice(["whole", "whole", "cancel", "deadline"])
    with grpc.insecure_channel(server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = stubs.InferenceStub(channel).GenerateStream(request, timeout=rng.uniform(0.002, 0.05) if how == "deadline" else PATIENCE_S)
        events = 0
        try:
            for event in call:
                events += 1
                if how == "cancel" and events == 3:
                    call.cancel()
            return "ok" if event.HasField("finish") else "unexpected: a stream without a finish"
        except grpc.RpcError as error:
            name = error.code().name
            expected = BUSY | {"deadline": {"DEADLINE_EXCEEDED"}, "cancel": {"CANCELLED"}}.get(how, set())
            return name if name in expected else f"unexpected: {name} {error.details()}"


def address_of(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


# How often each is chosen.
MIX = [(chat, 20), (stream, 20), (grpc_stream, 20), (structured, 6), (leaving, 10), (deadline, 6), (refused, 6), (garbage, 2), (stuck, 2), (connections, 1)]
