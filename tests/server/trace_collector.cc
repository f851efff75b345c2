#include "tests/server/trace_collector.h"

#include <utility>

#include "kernels/check.h"

namespace mea::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

}  // namespace

class TraceCollector::Service final
    : public opentelemetry::proto::collector::trace::v1::TraceService::Service {
 public:
  explicit Service(TraceCollector& to) : to_(to) {}

  grpc::Status Export(grpc::ServerContext* context, const Request* request,
                      Response* response) override {
    Answer answer;
    {
      absl::MutexLock lock(&to_.mu_);
      ++to_.num_calls_;
      answer = to_.answer_;
    }
    grpc::Status status = answer ? answer(*context, *response) : grpc::Status::OK;
    absl::MutexLock lock(&to_.mu_);
    if (status.ok()) to_.requests_.push_back(*request);
    return status;
  }

 private:
  TraceCollector& to_;
};

TraceCollector::TraceCollector(std::shared_ptr<grpc::ServerCredentials> credentials)
    : service_(std::make_unique<Service>(*this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0",
                           credentials ? credentials : grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  MEA_CHECK(server_ != nullptr && port_ > 0);
}

TraceCollector::~TraceCollector() {
  server_->Shutdown(std::chrono::system_clock::now());  // cancels what is left
  server_->Wait();
}

void TraceCollector::SetAnswer(Answer answer) {
  absl::MutexLock lock(&mu_);
  answer_ = std::move(answer);
}

bool TraceCollector::AwaitCalls(int count) {
  absl::MutexLock lock(&mu_);
  const auto have_come = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return num_calls_ >= count; };
  return mu_.AwaitWithTimeout(absl::Condition(&have_come), kPatience);
}

std::vector<TraceCollector::Span> TraceCollector::AwaitSpans(int count) {
  absl::MutexLock lock(&mu_);
  const auto have_come = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return NumSpans() >= count; };
  mu_.AwaitWithTimeout(absl::Condition(&have_come), kPatience);
  std::vector<Span> spans;
  for (const Request& request : requests_) {
    for (const auto& scope : request.resource_spans(0).scope_spans()) {
      spans.insert(spans.end(), scope.spans().begin(), scope.spans().end());
    }
  }
  return spans;
}

std::vector<TraceCollector::Request> TraceCollector::requests() const {
  absl::MutexLock lock(&mu_);
  return requests_;
}

int TraceCollector::NumSpans() const {
  int count = 0;
  for (const Request& request : requests_) {
    count += request.resource_spans(0).scope_spans(0).spans_size();
  }
  return count;
}

SpanExporterOptions TraceCollector::Options() const {
  SpanExporterOptions options;
  options.collector = {"127.0.0.1", port_};
  options.resource = {{"service.name", "mea"}};
  options.period = absl::ZeroDuration();
  options.first_backoff = absl::Milliseconds(1);
  return options;
}

}  // namespace mea::testing
