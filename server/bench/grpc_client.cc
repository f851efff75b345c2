#include "server/bench/grpc_client.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "mea/v1/control.grpc.pb.h"
#include "mea/v1/inference.grpc.pb.h"
#include "server/client.h"
#include "server/notification.h"

namespace mea {
namespace {

bool HasRetryInfo(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return false;
  for (const auto& detail : details.details()) {
    if (detail.Is<google::rpc::RetryInfo>()) return true;
  }
  return false;
}

v1::GenerateRequest ToProto(const BenchRequest& from, const BenchCallOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  if (from.token_ids.empty()) {
    request.set_text(from.text);
  } else {
    request.mutable_token_ids()->mutable_ids()->Add(from.token_ids.begin(), from.token_ids.end());
  }
  request.mutable_sampling()->set_temperature(options.temperature);
  request.mutable_stopping()->set_max_tokens(from.max_tokens);
  request.mutable_stopping()->set_ignore_eos(options.ignore_eos);
  return request;
}

void SetUsage(const v1::Usage& usage, RequestRecord& record) {
  record.prompt_tokens = usage.prompt_tokens();
  record.completion_tokens = usage.completion_tokens();
  record.cached_tokens = usage.cached_tokens();
  record.kv_bytes = usage.kv_bytes();
  record.kv_bytes_uncompressed = usage.kv_bytes_uncompressed();
}

// One stream, from StartCall to OnDone.
class Stream final : public grpc::ClientReadReactor<v1::GenerateStreamResponse> {
 public:
  Stream(v1::Inference::Stub& stub, const v1::GenerateRequest& request, double timeout_s,
         RequestRecorder& recorder, BenchClock::time_point due)
      : recorder_(recorder) {
    if (timeout_s > 0) {
      context_.set_deadline(absl::ToChronoTime(ToWallClock(Now() + absl::Seconds(timeout_s))));
    }
    stub.async()->GenerateStream(&context_, &request, this);
    StartRead(&event_);
    recorder_.Start(due);
    StartCall();
  }

  void Await() { done_.WaitForNotification(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    const BenchClock::time_point now = BenchClock::now();
    if (event_.has_delta()) {
      recorder_.Tokens(event_.delta().token_ids_size(), now);
      if (recorder_.TurnsAway()) context_.TryCancel();
    } else if (event_.has_finish()) {
      SetUsage(event_.finish().usage(), recorder_.record());
    }
    StartRead(&event_);
  }

  void OnDone(const grpc::Status& status) override {
    recorder_.record().retry_told = HasRetryInfo(status);
    recorder_.End(absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())),
                  status.error_message());
    done_.Notify();
  }

 private:
  RequestRecorder& recorder_;
  grpc::ClientContext context_;
  v1::GenerateStreamResponse event_;
  Notification done_;
};

class GrpcBenchClient final : public BenchClient {
 public:
  GrpcBenchClient(std::shared_ptr<grpc::Channel> channel, BenchCallOptions options)
      : stub_(v1::Inference::NewStub(std::move(channel))), options_(std::move(options)) {}

  RequestRecord Run(const BenchRequest& request, BenchClock::time_point due,
                    LiveCounts& live) override {
    RequestRecorder recorder(request, live);
    const v1::GenerateRequest message = ToProto(request, options_);
    Stream(*stub_, message, options_.timeout_s, recorder, due).Await();
    return std::move(recorder.record());
  }

 private:
  const std::unique_ptr<v1::Inference::Stub> stub_;
  const BenchCallOptions options_;
};

}  // namespace

BenchClientFactory GrpcBenchClients(std::shared_ptr<grpc::Channel> channel,
                                    BenchCallOptions options) {
  return [channel = std::move(channel), options = std::move(options)] {
    return std::make_unique<GrpcBenchClient>(channel, options);
  };
}

absl::StatusOr<ServerFacts> AskServer(const std::shared_ptr<grpc::Channel>& channel,
                                      const std::string& server) {
  const auto stub = v1::Control::NewStub(channel);
  v1::GetModelInfoResponse model;
  grpc::ClientContext model_context;
  if (const auto status = stub->GetModelInfo(&model_context, {}, &model); !status.ok()) {
    return ToAbslStatus(status, server);
  }
  v1::GetServerInfoResponse info;
  grpc::ClientContext info_context;
  const auto status = stub->GetServerInfo(&info_context, {}, &info);
  if (!status.ok() && status.error_code() != grpc::StatusCode::PERMISSION_DENIED) {
    return ToAbslStatus(status, server);
  }
  return ServerFacts{.model = model.name(),
                     .version = info.version(),
                     .device = info.device(),
                     .vocab_size = model.vocab_size()};
}

}  // namespace mea
