#pragma once

#include <optional>

#include "server/stream_call.h"
#include "server/vllm/responses.h"

namespace mea::vllm_engine {

// VllmEngine.Generate: a request of theirs, run as one of ours.
class EngineCall final : public StreamCall {
 public:
  using StreamCall::StreamCall;

 private:
  absl::Status Read(const grpc::ByteBuffer& message, v1::GenerateRequest& request) override;
  absl::Status Translate(const absl::Status& status) const override;
  OutputBound Bound() const override;
  bool sends_pieces() const override { return responses_.streams(); }
  std::optional<grpc::ByteBuffer> Message(Output output) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  EngineResponses responses_;  // changed by Read, before there is output, then by Message
};

}  // namespace mea::vllm_engine
