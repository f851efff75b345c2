"""Full queues, clients that leave, time limits: what is refused comes back with advice, what is left is freed."""

import json
import socket
import threading
import time

import conftest
import openai
import pytest
import serving

ENDLESS = {"max_tokens": 3500, "temperature": 1, "seed": 1, "extra_body": {"ignore_eos": True}}
HELLO = [{"role": "user", "content": "Hello"}]


def endless(client, server, **more):
    return client.chat.completions.create(model=server.model, messages=HELLO, stream=True, **{**ENDLESS, **more})


@pytest.fixture(scope="module")
def small_server(model_dir):
    """One sequence at a time, one request that may wait."""
    with serving.serve(model_dir, "--max-num-seqs", "1", "--max-queued-requests", "1") as started:
        yield started


def fill(client, server):
    """One stream that runs and one that waits."""
    running = endless(client, server)
    next(iter(running))
    answers = []

    def wait_in_line():
        try:
            answers.append(client.with_options(timeout=60).chat.completions.create(model=server.model, messages=HELLO, max_tokens=1))
        except openai.APIError as error:
            answers.append(error)

    thread = threading.Thread(target=wait_in_line)
    thread.start()
    server.wait_until(lambda: server.metric("mea_num_requests_waiting") >= 1, "one waits")
    return running, thread, answers


def test_a_full_queue_is_429_with_advice(small_server):
    with conftest.client_of(small_server) as client:
        running, thread, answers = fill(client, small_server)
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model=small_server.model, messages=HELLO, max_tokens=1)
        running.close()
        thread.join()
    error = raised.value
    assert (error.type, error.code) == ("rate_limit_error", "queue_full")
    assert float(error.response.headers["retry-after"]) > 0
    assert not isinstance(answers[0], Exception)
    small_server.wait_until_idle()


def test_a_client_that_retries_gets_its_answer(small_server):
    with conftest.client_of(small_server) as client:
        running, thread, _ = fill(client, small_server)
        threading.Timer(0.5, running.close).start()
        retrying = client.with_options(max_retries=8)
        assert retrying.chat.completions.create(model=small_server.model, messages=HELLO, max_tokens=1).usage.completion_tokens == 1
        thread.join()
    small_server.wait_until_idle()


def test_a_client_that_leaves_a_stream_frees_its_pages(client, server):
    stream = endless(client, server)
    next(iter(stream))
    assert server.metric("mea_kv_cache_bytes", state="used") > 0
    stream.close()
    server.wait_until_idle()


def test_a_client_that_leaves_before_the_answer_frees_its_pages(server):
    body = json.dumps({"model": server.model, "messages": HELLO, "max_tokens": 3500, "ignore_eos": True, "temperature": 1}).encode()
    host, port = server.http_address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        server.wait_until(lambda: server.metric("mea_kv_cache_bytes", state="used") > 0, "it runs")
    server.wait_until_idle()


def test_a_client_that_loses_patience_frees_its_pages(client, server):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model=server.model, messages=HELLO, **ENDLESS)
    server.wait_until_idle()


def test_a_client_that_retries_does_not_repeat_what_ran_out_of_time(client, server):
    before = server.metric("mea_requests_total")
    with pytest.raises(openai.APIStatusError) as raised:
        client.with_options(max_retries=3).chat.completions.create(model=server.model, messages=HELLO, extra_body={"timeout": 1e-6})
    assert raised.value.status_code == 408
    assert server.metric("mea_requests_total") == before + 1


@pytest.mark.parametrize("how", ["header", "body"])
def test_a_time_limit_of_the_request_is_kept(server, how):
    body = {"model": server.model, "messages": HELLO, "max_tokens": 3500, "ignore_eos": True, "temperature": 1}
    headers = {}
    if how == "header":
        headers["X-Request-Timeout"] = "0.2"
    else:
        body["timeout"] = 0.2
    began = time.monotonic()
    answer = server.post("/v1/chat/completions", body, headers=headers)
    assert answer.status in (408, 429), answer.body  # 429: refused at once, since it could not have ended in time
    error = answer.json()["error"]
    if answer.status == 408:
        assert error["type"] == "timeout"
    else:
        assert error["code"] == "deadline_unreachable"
    assert time.monotonic() - began < serving.SETTLE_TIMEOUT_S
    server.wait_until_idle()


def test_many_streams_at_once_say_what_each_alone_says(client, server):
    def text_of(seed):
        stream = client.chat.completions.create(model=server.model, messages=HELLO, max_tokens=24, temperature=1, seed=seed, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    together = {}
    threads = [threading.Thread(target=lambda seed=seed: together.__setitem__(seed, text_of(seed))) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 7, 23):
        assert together[seed] == text_of(seed)
    server.wait_until_idle()


def test_priority_is_taken_where_the_queue_is_short(client, server):
    answer = client.chat.completions.create(model=server.model, messages=HELLO, max_tokens=2, extra_body={"priority": 5})
    assert answer.usage.completion_tokens >= 1
