#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.grpc.pb.h"
#include "server/traces/span_exporter.h"

namespace mea::testing {

// A collector of traces on the loopback.
class TraceCollector {
 public:
  using Span = opentelemetry::proto::trace::v1::Span;
  using Request = opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
  using Response = opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;
  using Answer = std::function<grpc::Status(const grpc::ServerContext&, Response&)>;

  // Empty: no TLS.
  explicit TraceCollector(std::shared_ptr<grpc::ServerCredentials> credentials = nullptr);
  ~TraceCollector();

  // What the calls from now on are answered; those that fail bring nothing.
  void SetAnswer(Answer answer) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until calls have come, of any answer; false after ten seconds.
  [[nodiscard]] bool AwaitCalls(int count) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for so many spans, and returns all that have come.
  std::vector<Span> AwaitSpans(int count) ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Request> requests() const ABSL_LOCKS_EXCLUDED(mu_);

  // That sends to it at once.
  SpanExporterOptions Options() const;

 private:
  class Service;

  int NumSpans() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  Answer answer_ ABSL_GUARDED_BY(mu_);
  int num_calls_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

// Of a span or a resource, as texts.
template <typename Message>
std::map<std::string, std::string> AttributesOf(const Message& of) {
  std::map<std::string, std::string> attributes;
  for (const auto& attribute : of.attributes()) {
    const auto& value = attribute.value();
    attributes[attribute.key()] = value.has_string_value() ? value.string_value()
                                  : value.has_int_value()  ? std::to_string(value.int_value())
                                                           : std::to_string(value.double_value());
  }
  return attributes;
}

}  // namespace mea::testing
