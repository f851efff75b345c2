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

// Pieces of a call are appended to its earlier pieces.
void AppendReply(ReplyDelta from, v1::Reply& to) {
  to.mutable_content()->append(from.content);
  to.mutable_reasoning()->append(from.reasoning);
  for (ToolCallDelta& piece : from.tool_calls) {
    v1::ToolCall* call = nullptr;
    for (v1::ToolCall& known : *to.mutable_tool_calls()) {
      if (known.index() == piece.index) call = &known;
    }
    if (call == nullptr) call = to.add_tool_calls();
    call->set_index(piece.index);
    if (!piece.id.empty()) call->set_id(std::move(piece.id));
    if (!piece.name.empty()) call->set_name(std::move(piece.name));
    call->mutable_arguments()->append(piece.arguments);
  }
}

template <typename Proto>
void AppendDelta(DeltaOutput delta, Proto& to) {
  to.mutable_text()->append(delta.text);
  to.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const PositionLogprob& position : delta.logprobs) ToProto(position, *to.add_logprobs());
  if (delta.reply) AppendReply(*std::move(delta.reply), *to.mutable_reply());
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
  to.mutable_token_ids()->Add(prompt.token_ids.begin(), prompt.token_ids.end());
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
