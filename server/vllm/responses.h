#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "mea/v1/inference.pb.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace mea::vllm_engine {

// Turns the events of our stream into the messages of theirs. Of one call; not thread-safe.
class EngineResponses {
 public:
  EngineResponses() = default;
  explicit EngineResponses(const ::vllm::grpc::engine::GenerateRequest& request);

  bool streams() const { return streams_; }
  // Nothing for an event that a later message tells.
  std::optional<::vllm::grpc::engine::GenerateResponse> Next(v1::GenerateStreamResponse event);

 private:
  struct Completion {
    uint32_t num_tokens = 0;
    bool has_begun = false;
    v1::Delta rest;  // what no chunk has brought
  };
  Completion& CompletionOf(int index);
  ::vllm::grpc::engine::GenerateResponse Chunk(const v1::Delta& delta);
  ::vllm::grpc::engine::GenerateResponse Complete(const v1::Finish& finish);
  template <typename Message>
  void AddLogprobs(const v1::Delta& delta, bool with_prompt, Message& to) const;

  bool streams_ = false;
  std::optional<int> num_logprobs_;
  std::optional<int> num_prompt_logprobs_;
  v1::PromptInfo prompt_;
  std::vector<Completion> completions_;
};

}  // namespace mea::vllm_engine
