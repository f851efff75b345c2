#include "server/vllm/responses.h"

#include <algorithm>
#include <utility>

namespace mea::vllm_engine {
namespace {

namespace engine = ::vllm::grpc::engine;

void AddTop(const v1::TokenLogprob& from, int count, engine::TopLogProbs& to) {
  for (int i = 0; i < std::min(count, from.top_size()); ++i) {
    to.add_values(from.top(i).logprob());
    to.add_token_ids(static_cast<uint32_t>(from.top(i).token_id()));
  }
}

}  // namespace

EngineResponses::EngineResponses(const engine::GenerateRequest& request)
    : streams_(request.stream()) {
  const engine::SamplingParams& sampling = request.sampling_params();
  if (sampling.has_logprobs()) num_logprobs_ = sampling.logprobs();
  if (sampling.has_prompt_logprobs()) num_prompt_logprobs_ = sampling.prompt_logprobs();
}

std::optional<engine::GenerateResponse> EngineResponses::Next(v1::GenerateStreamResponse event) {
  switch (event.event_case()) {
    case v1::GenerateStreamResponse::kPrompt:
      prompt_ = std::move(*event.mutable_prompt());
      return std::nullopt;
    case v1::GenerateStreamResponse::kDelta: {
      if (streams_) return Chunk(event.delta());
      v1::Delta& rest = CompletionOf(event.delta().index()).rest;
      rest.MergeFrom(event.delta());
      return std::nullopt;
    }
    case v1::GenerateStreamResponse::kFinish:
      return Complete(event.finish());
    case v1::GenerateStreamResponse::EVENT_NOT_SET:
      break;
  }
  return std::nullopt;
}

EngineResponses::Completion& EngineResponses::CompletionOf(int index) {
  if (index >= std::ssize(completions_)) completions_.resize(index + 1);
  return completions_[index];
}

engine::GenerateResponse EngineResponses::Chunk(const v1::Delta& delta) {
  Completion& completion = CompletionOf(delta.index());
  completion.num_tokens += static_cast<uint32_t>(delta.token_ids_size());
  engine::GenerateResponse response;
  engine::GenerateStreamChunk& chunk = *response.mutable_chunk();
  chunk.mutable_token_ids()->Add(delta.token_ids().begin(), delta.token_ids().end());
  chunk.set_prompt_tokens(static_cast<uint32_t>(prompt_.prompt_tokens()));
  chunk.set_completion_tokens(completion.num_tokens);
  chunk.set_index(static_cast<uint32_t>(delta.index()));
  AddLogprobs(delta, !std::exchange(completion.has_begun, true), chunk);
  return response;
}

engine::GenerateResponse EngineResponses::Complete(const v1::Finish& finish) {
  const Completion& completion = CompletionOf(finish.index());
  engine::GenerateResponse response;
  engine::GenerateComplete& complete = *response.mutable_complete();
  const auto& ids = completion.rest.token_ids();
  complete.mutable_output_ids()->Add(ids.begin(), ids.end());
  complete.set_finish_reason(finish.reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop");
  complete.set_prompt_tokens(static_cast<uint32_t>(finish.usage().prompt_tokens()));
  complete.set_completion_tokens(static_cast<uint32_t>(finish.usage().completion_tokens()));
  complete.set_cached_tokens(static_cast<uint32_t>(finish.usage().cached_tokens()));
  complete.set_index(static_cast<uint32_t>(finish.index()));
  if (finish.has_stop_token_id()) {
    complete.set_matched_token_id(static_cast<uint32_t>(finish.stop_token_id()));
  } else if (finish.has_stop_string()) {
    complete.set_matched_stop_str(finish.stop_string());
  }
  if (!streams_) AddLogprobs(completion.rest, /*with_prompt=*/true, complete);
  return response;
}

template <typename Message>
void EngineResponses::AddLogprobs(const v1::Delta& delta, bool with_prompt, Message& to) const {
  if (num_logprobs_) {
    engine::OutputLogProbs& logprobs = *to.mutable_output_logprobs();
    for (const v1::TokenLogprob& token : delta.logprobs()) {
      logprobs.add_token_logprobs(token.logprob());
      logprobs.add_token_ids(static_cast<uint32_t>(token.token_id()));
      AddTop(token, *num_logprobs_, *logprobs.add_top_logprobs());
    }
  }
  if (!num_prompt_logprobs_ || !with_prompt) return;
  engine::InputLogProbs& logprobs = *to.mutable_input_logprobs();
  for (const v1::TokenLogprob& token : prompt_.logprobs()) {
    engine::InputTokenLogProb& logprob = *logprobs.add_token_logprobs();
    if (token.has_logprob()) logprob.set_value(token.logprob());
    logprobs.add_token_ids(static_cast<uint32_t>(token.token_id()));
    AddTop(token, *num_prompt_logprobs_, *logprobs.add_top_logprobs());
  }
}

}  // namespace mea::vllm_engine
