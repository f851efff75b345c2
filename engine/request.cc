#include "engine/request.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kMaxLogprobs = 20;
constexpr int kMaxPriority = 1000;
constexpr float kMaxLogitBias = 100.0f;

// Negated comparisons, so that NaN is outside of every range.
template <typename T>
absl::Status InRange(absl::string_view field, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", value, " is outside ", low, "..", high));
}

absl::Status ValidateToken(absl::string_view field, int32_t id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", id, " is outside the vocabulary 0..", vocab_size - 1));
}

absl::Status ValidatePrompt(const Request& request, const RequestLimits& limits) {
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt is empty");
  const size_t length = request.prompt.size();
  if (length >= static_cast<size_t>(limits.max_context)) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", length,
                                                   " tokens leaves no room in the context of ",
                                                   limits.max_context, " tokens"));
  }
  for (const int32_t id : request.prompt) {
    MEA_RETURN_IF_ERROR(ValidateToken("prompt token", id, limits.vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateSampling(const SamplingParams& p, int vocab_size) {
  for (const absl::Status& status : {
           InRange("temperature", p.temperature, 0.0f, 2.0f),
           InRange("top_k", p.top_k, 0, vocab_size),
           InRange("top_p", p.top_p, 0.0f, 1.0f),
           InRange("min_p", p.min_p, 0.0f, 1.0f),
           InRange("repetition_penalty", p.repetition_penalty, 0.01f, 10.0f),
           InRange("presence_penalty", p.presence_penalty, -2.0f, 2.0f),
           InRange("frequency_penalty", p.frequency_penalty, -2.0f, 2.0f),
       }) {
    MEA_RETURN_IF_ERROR(status);
  }
  if (p.top_p == 0.0f)
    return absl::InvalidArgumentError("top_p 0 keeps no token; the least is above 0");
  for (const auto& [id, bias] : p.logit_bias) {
    MEA_RETURN_IF_ERROR(ValidateToken("logit_bias token", id, vocab_size));
    MEA_RETURN_IF_ERROR(InRange("logit_bias", bias, -kMaxLogitBias, kMaxLogitBias));
  }
  for (const int32_t id : p.allowed_token_ids) {
    MEA_RETURN_IF_ERROR(ValidateToken("allowed_token_ids", id, vocab_size));
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const Request& request, const RequestLimits& limits) {
  if (request.id.empty()) return absl::InvalidArgumentError("request_id is empty");
  MEA_RETURN_IF_ERROR(ValidatePrompt(request, limits));
  MEA_RETURN_IF_ERROR(ValidateSampling(request.sampling, limits.vocab_size));

  MEA_RETURN_IF_ERROR(InRange("priority", request.priority, -kMaxPriority, kMaxPriority));
  if (request.grammar != nullptr && !request.sampling.allowed_token_ids.empty()) {
    return absl::InvalidArgumentError(
        "allowed_token_ids and a grammar for structured output exclude each other");
  }
  const StoppingParams& stopping = request.stopping;
  MEA_RETURN_IF_ERROR(InRange("max_tokens", stopping.max_tokens, 1, limits.max_context));
  MEA_RETURN_IF_ERROR(InRange("min_tokens", stopping.min_tokens, 0, stopping.max_tokens));
  for (const int32_t id : stopping.stop_token_ids) {
    MEA_RETURN_IF_ERROR(ValidateToken("stop_token_ids", id, limits.vocab_size));
  }
  if (request.logprobs.has_value()) return InRange("logprobs", *request.logprobs, 0, kMaxLogprobs);
  return absl::OkStatus();
}

}  // namespace mea
