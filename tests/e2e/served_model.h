#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "mea/v1/control.grpc.pb.h"
#include "mea/v1/inference.grpc.pb.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/server.h"

namespace mea::testing {

// A checkpoint of this repository behind a real server on a free loopback port.
class ServedModel {
 public:
  explicit ServedModel(const std::string& model, EngineOptions options = {});

  Engine& engine() { return *engine_; }
  Server& server() { return *server_; }
  v1::Inference::Stub& inference() { return *inference_; }

  v1::GetCacheStatsResponse CacheStats();
  v1::GetModelInfoResponse ModelInfo();

 private:
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Metrics> metrics_;
  Log log_{{.level = LogLevel::kOff}};
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Control::Stub> control_;
};

// What one stream said, and how it ended.
struct Streamed {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;
  v1::Finish finish;
  grpc::Status status;

  bool operator==(const Streamed& other) const {
    return text == other.text && token_ids == other.token_ids && logprobs == other.logprobs;
  }
};

// Reads a whole stream; on_delta may cancel it through the context.
Streamed Stream(
    v1::Inference::Stub& stub, const v1::GenerateRequest& request,
    const std::function<void(grpc::ClientContext&, int num_deltas)>& on_delta = nullptr);

}  // namespace mea::testing
