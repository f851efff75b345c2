"""Traces as OpenTelemetry's own definition of OTLP reads them (the package opentelemetry-proto)."""

import concurrent.futures
import contextlib
import threading

import grpc
import pytest
import serving
from google.protobuf import unknown_fields
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE_ID}-{CALLERS_SPAN}-01", "tracestate": "vendor=1"}
RESOURCE = {"OTEL_SERVICE_NAME": "chat", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test%20bed"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.requests = []
        self.came = threading.Condition()

    def Export(self, request, context):
        with self.came:
            self.requests.append(request)
            self.came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def resources(self):
        return [resource for request in self.requests for resource in request.resource_spans]

    def spans(self):
        return [span for resource in self.resources() for scope in resource.scope_spans for span in scope.spans]

    def wait_for_spans(self, count):
        with self.came:
            assert self.came.wait_for(lambda: len(self.spans()) >= count, serving.SETTLE_TIMEOUT_S), f"{len(self.spans())} spans"
            return self.spans()


@contextlib.contextmanager
def collecting():
    collector = Collector()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None)


def attributes(of):
    return {attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in of.attributes}


def unknown(message):
    """Fields that the definition does not have, here or anywhere below."""
    found = [field.field_number for field in unknown_fields.UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if hasattr(value, "__len__") else [value]:
                found += unknown(part)
    return found


@pytest.fixture(scope="module")
def traced(model_dir):
    """What a collector was told of a chat and of a request that failed, over HTTP, and of a call over gRPC."""
    with pytest.MonkeyPatch.context() as patch, collecting() as (collector, url):
        for name, value in RESOURCE.items():
            patch.setenv(name, value)
        with serving.serve(model_dir, "--otlp-traces", url) as server:
            body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "temperature": 0.5, "ignore_eos": True}
            answer = server.post("/v1/chat/completions", body, headers=CALLER).json()
            assert server.post("/v1/chat/completions", {**body, "top_p": 7}, headers=CALLER).status == 400
            spans = collector.wait_for_spans(5)
            yield collector, answer, spans


def test_every_field_is_one_of_the_definition(traced):
    collector, _, _ = traced
    for request in collector.requests:
        assert unknown(request) == []


def test_a_chat_is_a_child_of_the_callers_span(traced):
    _, answer, spans = traced
    (request,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER and not span.status.code]
    assert request.name == "llm_request"
    assert (request.trace_id.hex(), request.parent_span_id.hex(), request.trace_state) == (TRACE_ID, CALLERS_SPAN, "vendor=1")
    assert request.flags == 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    phases = [span for span in spans if span.parent_span_id == request.span_id]
    assert [span.name for span in phases] == ["queue", "prefill", "decode"]
    assert {span.kind for span in phases} == {Span.SPAN_KIND_INTERNAL}
    times = [request.start_time_unix_nano, *[span.end_time_unix_nano for span in phases]]
    assert times == sorted(times) and times[-1] == request.end_time_unix_nano
    assert [span.start_time_unix_nano for span in phases] == times[:-1]
    told = attributes(request)
    assert told["gen_ai.request.id"] == answer["id"]
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == serving.NAME
    assert told["gen_ai.request.max_tokens"] == 5
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.usage.prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert told["gen_ai.usage.completion_tokens"] == 5
    assert told["gen_ai.latency.e2e"] == pytest.approx((times[-1] - times[0]) / 1e9, abs=1e-6)
    assert told["gen_ai.latency.time_in_queue"] == pytest.approx((times[1] - times[0]) / 1e9, abs=1e-6)
    assert told["mea.finish_reason"] == "length"
    assert 2 * told["mea.cache_bytes"] == told["mea.cache_bytes_all_heads"] > 0


def test_a_refused_request_is_an_error(traced):
    _, _, spans = traced
    (refused,) = [span for span in spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert refused.kind == Span.SPAN_KIND_SERVER
    assert "top_p 7" in refused.status.message
    assert attributes(refused)["error.type"] == "INVALID_ARGUMENT"
    assert refused.parent_span_id.hex() == CALLERS_SPAN


def test_the_resource_is_named_by_the_environment(traced):
    collector, _, _ = traced
    for resource in collector.resources():
        told = attributes(resource.resource)
        assert (told["service.name"], told["deployment.environment.name"]) == ("chat", "test bed")
        assert told["service.version"]
        assert [scope.scope.name for scope in resource.scope_spans] == ["mea"]


def test_the_environment_alone_turns_traces_on_and_a_drain_sends_the_last(model_dir):
    """The spans need not wait for their five seconds."""
    with pytest.MonkeyPatch.context() as patch, collecting() as (collector, url):
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with serving.serve(model_dir, may_end=True) as server:
            assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 2}).status == 200
            server.process.terminate()
            assert server.process.wait() == 0
        assert {span.name for span in collector.spans()} >= {"llm_request", "queue", "prefill"}


def test_an_environment_that_names_no_collector_of_grpc_stops_no_server(model_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        with serving.serve(model_dir) as server:
            assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 2}).status == 200
