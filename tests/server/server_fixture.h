#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "mea/v1/control.grpc.pb.h"
#include "mea/v1/inference.grpc.pb.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/server.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_tokenizer.h"

namespace mea::testing {

// What a stream brought, put together.
struct StreamResult {
  grpc::Status status;
  v1::PromptInfo prompt;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<v1::TokenLogprob> logprobs;
  v1::Finish finish;
  int num_deltas = 0;
  std::string events;  // in order: p, d, f
};

// Keeps the lines of a log, without their newlines.
class LogLines {
 public:
  Log::Writer Writer() {
    return [this](std::string_view line) {
      absl::MutexLock lock(&mu_);
      lines_.emplace_back(line.substr(0, line.size() - 1));
    };
  }
  std::vector<std::string> lines() const {
    absl::MutexLock lock(&mu_);
    return lines_;
  }

 private:
  mutable absl::Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
};

// A server on free ports of the loopback, before a fake engine, and clients of it.
class ServerFixture {
 public:
  // Addresses and the patience of `server_options` are the fixture's, and the model's name unless
  // it has one.
  explicit ServerFixture(FakeEngineOptions options = {}, bool vllm_names = false,
                         ServerOptions server_options = {});

  std::unique_ptr<grpc::ClientContext> Context(absl::Duration timeout = absl::Seconds(20)) const;

  StreamResult Stream(const v1::GenerateRequest& request) const;
  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse& response) const;
  // The status of a Generate whose response does not matter.
  grpc::Status Try(const v1::GenerateRequest& request) const;
  grpc::health::v1::HealthCheckResponse::ServingStatus Health(
      const std::string& service = "") const;
  // The body of GET `path` on the admin port, or on another; `head` receives the status line and
  // headers.
  std::string HttpGet(const std::string& path, std::string* head = nullptr,
                      const std::string& port = "") const;

  std::shared_ptr<grpc::Channel> NewChannel() const;

  // Waits for a line of the log that has this in it.
  void AwaitLog(const std::string& event) const;
  // Every line that the log took, the end of the server included.
  std::vector<std::string> StopAndReadLog();

  FakeEngine engine;
  Metrics metrics;
  LogLines log_lines;
  std::unique_ptr<Log> log =
      std::make_unique<Log>(LogOptions{.level = LogLevel::kTrace}, log_lines.Writer());
  std::unique_ptr<Tokenizer> tokenizer = MakeTestTokenizer();
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Inference::Stub> inference;
  std::unique_ptr<v1::Control::Stub> control;
};

v1::GenerateRequest TextRequest(const std::string& text, int max_tokens = 100);
// Reads a stream to its end.
StreamResult ReadAll(grpc::ClientReader<v1::GenerateStreamResponse>& reader);

}  // namespace mea::testing
