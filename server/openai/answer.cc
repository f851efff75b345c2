#include "server/openai/answer.h"

#include <algorithm>
#include <numeric>
#include <variant>

namespace mea::openai {

void UsageSum::AddFinish(int prompt, const FinishOutput& finish) {
  completion_tokens_ += finish.usage.completion_tokens;
  if (std::ssize(cached_tokens_) <= prompt) cached_tokens_.resize(prompt + 1);
  cached_tokens_[prompt] = std::max<int64_t>(cached_tokens_[prompt], finish.usage.cached_tokens);
  kv_bytes_ += finish.usage.kv_bytes;
  kv_bytes_uncompressed_ += finish.usage.kv_bytes_uncompressed;
}

Json UsageSum::KvCache() const {
  return {{"bytes", kv_bytes_}, {"bytes_uncompressed", kv_bytes_uncompressed_}};
}

Json UsageSum::ToJson() const {
  const int64_t cached = std::accumulate(cached_tokens_.begin(), cached_tokens_.end(), int64_t{0});
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", completion_tokens_},
          {"total_tokens", prompt_tokens_ + completion_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached}}},
          {"kv_cache", KvCache()}};
}

Json UsageSum::ToResponsesJson() const {
  const int64_t cached = std::accumulate(cached_tokens_.begin(), cached_tokens_.end(), int64_t{0});
  return {{"input_tokens", prompt_tokens_},
          {"input_tokens_details", {{"cached_tokens", cached}}},
          {"output_tokens", completion_tokens_},
          {"output_tokens_details", {{"reasoning_tokens", 0}}},
          {"total_tokens", prompt_tokens_ + completion_tokens_},
          {"kv_cache", KvCache()}};
}

void ChunkStream::Add(int /*prompt*/, PromptOutput output) { usage_.AddPrompt(output); }

void ChunkStream::End() {
  if (include_usage_) {
    Json chunk = Chunk(Json::array());
    chunk["usage"] = usage_.ToJson();
    SendEvent(chunk);
  }
  text_ += "data: [DONE]\n\n";
}

void ChunkStream::SendChunk(Json choice) {
  Json chunk = Chunk(Json::array({std::move(choice)}));
  if (include_usage_) chunk["usage"] = nullptr;
  SendEvent(chunk);
}

Json ChunkStream::Chunk(Json choices) const {
  return {{"id", info_.id},
          {"object", object_},
          {"created", info_.created},
          {"model", info_.model},
          {"choices", std::move(choices)}};
}

std::string FinishReasonOf(const FinishOutput& finish) {
  if (finish.reason == FinishReason::kLength) return "length";
  return finish.has_tool_calls ? "tool_calls" : "stop";
}

Json StopReasonOf(const FinishOutput& finish) {
  if (const auto* token = std::get_if<StopTokenMatch>(&finish.match)) return token->token_id;
  if (const auto* string = std::get_if<StopStringMatch>(&finish.match)) return string->text;
  return nullptr;
}

}  // namespace mea::openai
