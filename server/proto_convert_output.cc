#include <utility>

#include "server/proto_convert.h"

namespace mea {
namespace {

void ToProto(const PositionLogprob& from, v1::TokenLogprob& to) {
  to.set_token_id(from.token_id);
  if (from.logprob) to.set_logprob(*from.logprob);
  for (const TokenLogprob& likely : from.top) {
    v1::TokenLogprob& top = *to.add_top();
    top.set_token_id(likely.token_id);
    top.set_logprob(likely.logprob);
  }
}

template <typename Proto>
void AppendDelta(DeltaOutput delta, Proto& to) {
  to.mutable_text()->append(delta.text);
  to.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const PositionLogprob& position : delta.logprobs) ToProto(position, *to.add_logprobs());
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

struct MatchWriter {
  v1::Finish& to;
  void operator()(std::monostate) const {}
  void operator()(const EosMatch& match) const { to.set_eos_token_id(match.token_id); }
  void operator()(const StopTokenMatch& match) const { to.set_stop_token_id(match.token_id); }
  void operator()(const StopStringMatch& match) const { to.set_stop_string(match.text); }
};

}  // namespace

void ToProto(const PromptOutput& prompt, const std::string& request_id, const Serving& serving,
             v1::PromptInfo& to) {
  to.set_request_id(request_id);
  to.set_model(serving.model_name);
  to.set_prompt_tokens(prompt.num_tokens);
  for (const PositionLogprob& position : prompt.logprobs) ToProto(position, *to.add_logprobs());
}

void ToProto(DeltaOutput delta, v1::Delta& to) {
  to.set_index(delta.index);
  AppendDelta(std::move(delta), to);
}
void ToProto(DeltaOutput delta, v1::Completion& to) { AppendDelta(std::move(delta), to); }

void ToProto(const FinishOutput& finish, v1::Finish& to) {
  to.set_index(finish.index);
  to.set_reason(ToProto(finish.reason));
  std::visit(MatchWriter{to}, finish.match);
  v1::Usage& usage = *to.mutable_usage();
  usage.set_prompt_tokens(finish.usage.prompt_tokens);
  usage.set_completion_tokens(finish.usage.completion_tokens);
  usage.set_cached_tokens(finish.usage.cached_tokens);
  usage.set_kv_bytes(finish.usage.kv_bytes);
  usage.set_kv_bytes_uncompressed(finish.usage.kv_bytes_uncompressed);
  to.set_seed(finish.seed);
}

std::string FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "?";
}

}  // namespace mea
