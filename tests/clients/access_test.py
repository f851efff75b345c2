"""TLS, keys and their limits, as clients that other people wrote meet them."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading

import certificates
import grpc
import openai
import pytest
import serving

HELLO = [{"role": "user", "content": "Hello"}]


def mea(*arguments, **environment):
    return subprocess.run([os.environ["MEA_BINARY"], *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **environment})


def new_key(file, name, *flags):
    """Appends a key to the file; its token."""
    made = mea("key", "new", name, "--api-key-file", file, *flags)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@contextlib.contextmanager
def openai_client(server, ca=None, own=None, **options):
    context = None
    if ca:
        context = ssl.create_default_context(cafile=str(ca))
        if own:
            context.load_cert_chain(*map(str, own))
    url = f"{'https' if ca else 'http'}://{server.http_address}/v1"
    options = {"max_retries": 0, "timeout": 60, "api_key": "none", **options}
    with openai.OpenAI(base_url=url, http_client=openai.DefaultHttpxClient(verify=context or True), **options) as client:
        yield client


def say(client, **more):
    return client.chat.completions.create(model=serving.NAME, messages=HELLO, max_tokens=2, temperature=0, **more)


# ---- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture(scope="module")
def tls_server(model_dir, authority):
    cert, key = authority.sign("server")
    with serving.serve(model_dir, "--tls-cert", cert, "--tls-key", key) as started:
        yield started


@pytest.fixture(scope="module")
def mutual_server(model_dir, authority):
    cert, key = authority.sign("server2")
    with serving.serve(model_dir, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.cert) as started:
        yield started


def ask_grpc(protocol, server, ca, own=None, metadata=None):
    """The code of a Tokenize."""
    _, inference, services = protocol
    cert, key = (path.read_bytes() for path in own) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes() if ca else None, key, cert)
    with grpc.secure_channel(server.grpc_address, credentials) if ca else grpc.insecure_channel(server.grpc_address) as channel:
        try:
            services.InferenceStub(channel).Tokenize(inference.TokenizeRequest(text="a"), timeout=30, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def test_openai_and_grpc_speak_tls(tls_server, authority, protocol):
    with openai_client(tls_server, authority.cert) as client:
        assert say(client).usage.completion_tokens > 0
        chunks = list(say(client, stream=True))
        assert chunks[-1].choices[0].finish_reason
    assert ask_grpc(protocol, tls_server, authority.cert) == grpc.StatusCode.OK
    assert ask_grpc(protocol, tls_server, None) == grpc.StatusCode.UNAVAILABLE


def test_clients_trust_only_whom_they_know(tls_server, stranger, protocol):
    with openai_client(tls_server, stranger.cert) as client, pytest.raises(openai.APIConnectionError) as raised:
        say(client)
    assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value.__cause__)
    assert ask_grpc(protocol, tls_server, stranger.cert) == grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_lets_in_whom_the_authority_has_signed(mutual_server, authority, stranger, protocol):
    alice = authority.sign("alice", address="alice.example", client=True)
    refused = [None, authority.sign("bob", address="bob.example", client=True, expired=True), stranger.sign("alice", client=True)]
    with openai_client(mutual_server, authority.cert, alice) as client:
        assert say(client).usage.completion_tokens > 0
    assert ask_grpc(protocol, mutual_server, authority.cert, alice) == grpc.StatusCode.OK
    for own in refused:
        with openai_client(mutual_server, authority.cert, own) as client, pytest.raises(openai.APIConnectionError):
            say(client)
        assert ask_grpc(protocol, mutual_server, authority.cert, own) == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_changes_under_load(model_dir, tmp_path, authority, stranger, protocol):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(pair):
        for source, target in zip(pair[::-1], (key, cert)):
            (tmp_path / "new").write_bytes(source.read_bytes())
            (tmp_path / "new").rename(target)

    put(authority.sign("before"))
    with serving.serve(model_dir, "--tls-cert", cert, "--tls-key", key) as server:
        failures, counts, stop = [], [0] * 4, threading.Event()

        def load(i):
            with openai_client(server, authority.cert) as client:  # one connection each, kept
                while not stop.is_set():
                    try:
                        say(client)
                        counts[i] += 1
                    except openai.APIError as error:
                        failures.append(error)
                        return

        threads = [threading.Thread(target=load, args=(i,)) for i in range(len(counts))]
        for thread in threads:
            thread.start()
        server.wait_until(lambda: all(counts), "all clients are served")
        put(stranger.sign("after"))
        server.wait_until(lambda: ask_grpc(protocol, server, stranger.cert) == grpc.StatusCode.OK, "the new certificate is shown")
        served = list(counts)
        server.wait_until(lambda: all(now > then for now, then in zip(counts, served)), "kept connections go on")
        with openai_client(server, stranger.cert) as client:
            say(client)
        with openai_client(server, authority.cert) as client, pytest.raises(openai.APIConnectionError):
            say(client)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures


@pytest.mark.parametrize("flags, complaint", [
    (("--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"), "nowhere.pem: cannot be read"),
    (("--tls-cert", "nowhere.pem"), "--tls-cert and --tls-key go together"),
    (("--tls-client-ca", "nowhere.pem"), "--tls-client-ca needs --tls-cert"),
    (("--api-key-file", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
    (("--http", "0.0.0.0:0"), "--http 0.0.0.0:0 lets in whoever reaches it"),
    (("--listen", "[::]:0"), "--listen [::]:0 lets in whoever reaches it"),
    (("--admin", "0.0.0.0:0"), "--admin 0.0.0.0:0 lets in whoever reaches it"),
])
def test_what_cannot_be_served_safely_is_one_line(model_dir, flags, complaint):
    refused = mea("serve", model_dir, *flags)
    assert refused.returncode == 1
    assert complaint in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_open_server_can_be_meant(model_dir):
    command = [os.environ["MEA_BINARY"], "serve", str(model_dir), "--listen", "0.0.0.0:0", "--http", "off", "--admin", "off", "--insecure"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline().startswith("serving ")
        process.kill()


# ---- keys


@pytest.fixture(scope="module")
def tokens():
    return {}


@pytest.fixture(scope="module")
def key_server(model_dir, tmp_path_factory, tokens):
    file = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    tokens["alice"] = new_key(file, "alice")
    tokens["ops"] = new_key(file, "ops", "--rights", "control,metrics")
    tokens["hasty"] = new_key(file, "hasty", "--requests-per-minute", "60")
    tokens["single"] = new_key(file, "single", "--concurrent-requests", "1")
    with serving.serve(model_dir, "--api-key-file", file) as started:
        started.key_file = file
        yield started


def test_the_key_file_holds_no_token(key_server, tokens):
    text = key_server.key_file.read_text()
    assert all(token.startswith("mea-") and token not in text for token in tokens.values())


def test_openai_is_told_that_its_key_is_wrong(key_server, tokens):
    with openai_client(key_server, api_key="mea-wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        say(client)
    assert raised.value.code == "invalid_api_key"
    with openai_client(key_server, api_key=tokens["ops"]) as client, pytest.raises(openai.PermissionDeniedError):
        say(client)
    with openai_client(key_server, api_key=tokens["alice"]) as client:
        assert say(client).usage.completion_tokens > 0
        assert [model.id for model in client.models.list()] == [serving.NAME]


def test_grpc_reads_the_key_of_the_metadata(key_server, tokens, protocol):
    def ask(token):
        return ask_grpc(protocol, key_server, None, metadata=[("authorization", f"Bearer {token}")])

    assert ask("mea-wrong") == grpc.StatusCode.UNAUTHENTICATED
    assert ask(tokens["ops"]) == grpc.StatusCode.PERMISSION_DENIED
    assert ask(tokens["alice"]) == grpc.StatusCode.OK


def test_probes_need_no_key_and_metrics_do(key_server, tokens):
    assert key_server.ask("GET", "/health").status == 200
    assert key_server.ask("GET", "/health", address=key_server.admin_address).status == 200
    for address in (key_server.http_address, key_server.admin_address):
        assert key_server.ask("GET", "/metrics", address=address).status == 401
        answer = key_server.ask("GET", "/metrics", headers={"Authorization": f"Bearer {tokens['ops']}"}, address=address)
        assert b'mea_key_requests_total{model_name="demo",key="alice"}' in answer.body


def test_a_body_of_nobody_is_not_received(key_server):
    host, port = key_server.http_address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


def test_openai_waits_as_long_as_it_is_told(key_server, tokens):
    """Sixty requests at once are what was saved up; then one comes back each second."""
    key = {"Authorization": f"Bearer {tokens['hasty']}"}
    while key_server.post("/tokenize", {"prompt": "a"}, headers=key).status == 200:
        pass
    with openai_client(key_server, api_key=tokens["hasty"]) as client:
        while True:  # one may have come back meanwhile
            try:
                say(client)
            except openai.RateLimitError as error:
                refused = error
                break
        assert refused.code == "key_requests_per_minute"
        assert 0 < float(refused.response.headers["retry-after-ms"]) <= 1000
        assert client.with_options(max_retries=5).chat.completions.create(
            model=serving.NAME, messages=HELLO, max_tokens=1).usage.completion_tokens == 1


def test_one_by_one_is_never_two_at_once(key_server, tokens):
    with openai_client(key_server, api_key=tokens["single"]) as client:
        for i in range(20):
            assert list(say(client, stream=True)) if i % 2 else say(client)
        stream = client.chat.completions.create(model=serving.NAME, messages=HELLO, max_tokens=3500, stream=True, extra_body=serving.GO_ON)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as raised:
            say(client)
        assert raised.value.code == "key_concurrent_requests"
        stream.close()
        assert say(client.with_options(max_retries=8)).usage.completion_tokens > 0


def test_a_key_comes_and_goes_with_its_line(key_server):
    before = key_server.key_file.read_text()
    token = new_key(key_server.key_file, "guest")

    def may_come_in():
        return key_server.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {token}"}).status == 200

    key_server.wait_until(may_come_in, "the new key is known")
    key_server.key_file.write_text(before)
    key_server.wait_until(lambda: not may_come_in(), "the key is gone")


# ---- the program's own clients


def test_mea_shows_its_key_and_knows_the_server(model_dir, tmp_path, authority):
    keys = tmp_path / "keys.jsonl"
    token = new_key(keys, "alice", "--rights", "inference,control")
    (tmp_path / "token").write_text(token + "\n")
    cert, key = authority.sign("server3")
    own_cert, own_key = authority.sign("client3", client=True)
    with serving.serve(model_dir, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.cert, "--api-key-file", keys) as server:
        to_server = ["--server", server.grpc_address]
        tls = ["--tls-ca", authority.cert, "--tls-cert", own_cert, "--tls-key", own_key]
        generate = ["generate", "--prompt", "a", "--max-tokens", "2", *to_server]
        assert mea("health", *to_server, *tls).stdout == "SERVING\n"
        assert mea(*generate, *tls, "--api-key-file", tmp_path / "token").returncode == 0
        assert mea(*generate, *tls, MEA_API_KEY=token).returncode == 0
        refused = mea(*generate, *tls)
        assert refused.returncode == 1 and "UNAUTHENTICATED: no API key" in refused.stderr
        no_tls = mea(*generate, "--tls-ca", authority.cert)
        assert no_tls.returncode == 1 and no_tls.stderr.count("\n") == 1
        talk = subprocess.run([os.environ["MEA_BINARY"], "chat", "--max-tokens", "2", *to_server, *map(str, tls)], input="Hello", text=True,
                              capture_output=True, env={**os.environ, "MEA_API_KEY": token})
        assert talk.returncode == 0, talk.stderr
        load = ["bench", "serve", "--num-requests", "4", "--input-tokens", "4", "--output-tokens", "2", *tls]
        for target in (to_server, ["--openai", f"https://{server.http_address}", "--vocab-size", "200"]):
            bench = mea(*load, *target, MEA_API_KEY=token)
            assert bench.returncode == 0 and "4 completed" in bench.stdout, bench.stderr + bench.stdout
