#include "server/traces/span_exporter.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.grpc.pb.h"
#include "server/traces/span_message.h"

namespace mea {
namespace {

namespace collector = opentelemetry::proto::collector::trace::v1;

constexpr int kMaxReconnectMs = 10'000;  // gRPC's own goes up to minutes

std::shared_ptr<grpc::Channel> ChannelTo(const SpanExporterOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  // Connections within this machine use no proxy, even if http_proxy is set.
  if (IsLoopback(options.collector)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // With its scheme, lest a host named "unix" be taken for one.
  const std::string target = absl::StrCat("dns:///", options.collector.ToString());
  const auto credentials = options.tls_roots.empty()
                               ? grpc::InsecureChannelCredentials()
                               : grpc::SslCredentials({options.tls_roots, "", ""});
  return grpc::CreateCustomChannel(target, credentials, arguments);
}

std::string CodeName(const grpc::Status& status) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
}

int64_t NumSpans(const std::vector<RequestSpan>& batch) {
  int64_t spans = 0;
  for (const RequestSpan& request : batch) spans += request.num_spans();
  return spans;
}

}  // namespace

struct SpanExporter::State {
  State(SpanExporterOptions with, Log& to)
      : options(std::move(with)),
        log(to),
        stub(collector::TraceService::NewStub(ChannelTo(options))) {}

  void Run();
  // What is to be sent next; nothing at the end.
  std::vector<RequestSpan> NextBatch();
  void Export(const std::vector<RequestSpan>& batch);
  grpc::Status Send(const collector::ExportTraceServiceRequest& request,
                    collector::ExportTraceServiceResponse& response);
  // False once the server ends: then there is no second attempt.
  bool Wait(absl::Duration backoff);
  void Count(int64_t exported, int64_t rejected);
  void Warn(const std::string& message);

  const SpanExporterOptions options;
  Log& log;
  const std::unique_ptr<collector::TraceService::Stub> stub;
  bool failing = false;            // the exporter's thread's
  int64_t dropped_at_warning = 0;  // likewise

  mutable std::mutex mutex;  // guards the rest
  std::condition_variable changed;
  std::deque<RequestSpan> queue;
  SpanCounts counts;
  grpc::ClientContext* call = nullptr;  // in progress
  bool stopping = false;
  bool done = false;
  absl::Time end = absl::InfiniteFuture();  // of all sending
  std::thread thread;
};

SpanExporter::SpanExporter(SpanExporterOptions options, Log& log)
    : state_(std::make_unique<State>(std::move(options), log)) {
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

SpanExporter::~SpanExporter() {
  {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->end = Now() + state_->options.last_timeout;
    state_->changed.notify_all();
    state_->changed.wait_until(lock, ToSteadyTime(state_->end), [&] { return state_->done; });
    if (state_->call != nullptr) state_->call->TryCancel();
  }
  state_->thread.join();
}

void SpanExporter::Put(RequestSpan span) {
  const std::lock_guard lock(state_->mutex);
  std::deque<RequestSpan>& queue = state_->queue;
  if (queue.size() >= state_->options.max_queued) {
    state_->counts.dropped += span.num_spans();
    return;
  }
  queue.push_back(std::move(span));
  if (queue.size() == 1 || queue.size() == state_->options.max_batch) state_->changed.notify_all();
}

SpanCounts SpanExporter::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

void SpanExporter::State::Run() {
  for (std::vector<RequestSpan> batch; !(batch = NextBatch()).empty();) Export(batch);
  const std::lock_guard lock(mutex);
  done = true;
  changed.notify_all();
}

std::vector<RequestSpan> SpanExporter::State::NextBatch() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [this] { return stopping || !queue.empty(); });
  changed.wait_until(lock, ToSteadyTime(Now() + options.period),
                     [this] { return stopping || queue.size() >= options.max_batch; });
  const auto first = queue.begin();
  const auto last = first + static_cast<int64_t>(std::min(queue.size(), options.max_batch));
  std::vector<RequestSpan> batch(std::make_move_iterator(first), std::make_move_iterator(last));
  queue.erase(first, last);
  return batch;
}

void SpanExporter::State::Export(const std::vector<RequestSpan>& batch) {
  collector::ExportTraceServiceRequest request;
  *request.add_resource_spans() = ToMessage(batch, options.resource);
  const int64_t spans = NumSpans(batch);
  absl::Duration backoff = options.first_backoff;
  for (int attempt = 1;; ++attempt, backoff *= 2) {
    collector::ExportTraceServiceResponse response;
    const grpc::Status status = Send(request, response);
    if (status.ok()) {
      const auto& refused = response.partial_success();
      const int64_t rejected = std::clamp<int64_t>(refused.rejected_spans(), 0, spans);
      if (rejected > 0) Warn(refused.error_message());
      return Count(spans - rejected, rejected);
    }
    Warn(absl::StrCat(CodeName(status), ": ", status.error_message()));
    const bool may_recover = status.error_code() == grpc::StatusCode::UNAVAILABLE;
    if (!may_recover || attempt == kMaxExportAttempts || !Wait(backoff)) {
      return Count(0, spans);
    }
  }
}

grpc::Status SpanExporter::State::Send(const collector::ExportTraceServiceRequest& request,
                                       collector::ExportTraceServiceResponse& response) {
  grpc::ClientContext context;
  for (const auto& [name, value] : options.headers) context.AddMetadata(name, value);
  {
    const std::lock_guard lock(mutex);
    const absl::Time deadline = std::min(Now() + options.timeout, end);
    if (deadline <= Now()) return {grpc::StatusCode::CANCELLED, "the server has ended"};
    context.set_deadline(absl::ToChronoTime(ToWallClock(deadline)));
    call = &context;
  }
  grpc::Status status = stub->Export(&context, request, &response);
  const std::lock_guard lock(mutex);
  call = nullptr;
  return status;
}

bool SpanExporter::State::Wait(absl::Duration backoff) {
  std::unique_lock lock(mutex);
  if (stopping) return false;
  changed.wait_until(lock, ToSteadyTime(Now() + backoff), [this] { return stopping; });
  return true;
}

void SpanExporter::State::Count(int64_t exported, int64_t rejected) {
  int64_t dropped = 0;
  {
    const std::lock_guard lock(mutex);
    counts.exported += exported;
    counts.dropped += rejected;
    dropped = counts.dropped;
  }
  if (rejected > 0 || !std::exchange(failing, false)) return;
  log.Write(LogLevel::kInfo, "traces sent again", {{"dropped", dropped - dropped_at_warning}});
}

void SpanExporter::State::Warn(const std::string& message) {
  if (std::exchange(failing, true)) return;
  {
    const std::lock_guard lock(mutex);
    dropped_at_warning = counts.dropped;
  }
  log.Write(LogLevel::kWarning, "traces not sent",
            {{"collector", options.collector.ToString()}, {"message", message}});
}

}  // namespace mea
