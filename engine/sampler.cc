#include "engine/sampler.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace mea {

void Sampler::Clear() {
  rows_.clear();
  edits_.clear();
  masks_.clear();
}

Sampler::Mask Sampler::AddMask() {
  const size_t words = MaskWords(std::ssize(edit_of_));
  const size_t begin = masks_.size();
  masks_.resize(begin + words);
  return {.index = static_cast<int>(begin / words), .words = std::span(masks_).subspan(begin)};
}

void Sampler::Add(const SamplerInput& input) {
  const SamplingParams& params = *input.params;
  const size_t first = edits_.size();
  for (const auto& [id, bias] : params.logit_bias) EditOf(id).bias += bias;
  AddPenalties(input, first);
  for (const int32_t id : params.allowed_token_ids) EditOf(id);
  Ban(input);
  for (size_t i = first; i < edits_.size(); ++i) edit_of_[edits_[i].token_id] = kNoEdit;
  if (!params.allowed_token_ids.empty()) KeepOnly(params.allowed_token_ids, first);

  rows_.push_back({.temperature = params.temperature,
                   .top_k = params.top_k,
                   .top_p = params.top_p,
                   .min_p = params.min_p,
                   .seed = params.seed,
                   .counter = input.output.size(),
                   .edits_begin = static_cast<int32_t>(first),
                   .edits_end = static_cast<int32_t>(edits_.size()),
                   .restricted = params.allowed_token_ids.empty() ? 0 : 1,
                   .mask = input.mask,
                   .num_top = input.num_logprobs.value_or(-1)});
}

LogitEdit& Sampler::EditOf(int32_t token_id) {
  int32_t& index = edit_of_[token_id];
  if (index == kNoEdit) {
    index = static_cast<int32_t>(edits_.size());
    edits_.push_back({.token_id = token_id});
  }
  return edits_[index];
}

void Sampler::AddPenalties(const SamplerInput& input, size_t first) {
  const SamplingParams& params = *input.params;
  if (params.repetition_penalty != 1.0f) {
    for (const auto& tokens : {input.prompt, input.output}) {
      for (const int32_t id : tokens) EditOf(id).repetition = params.repetition_penalty;
    }
  }
  if (params.presence_penalty == 0.0f && params.frequency_penalty == 0.0f) return;
  // Counted first, then priced.
  for (const int32_t id : input.output) EditOf(id).penalty += 1;
  for (LogitEdit& edit : std::span(edits_).subspan(first)) {
    if (edit.penalty == 0) continue;
    edit.penalty = params.presence_penalty + params.frequency_penalty * edit.penalty;
  }
}

void Sampler::Ban(const SamplerInput& input) {
  const auto is_banned = [&](int32_t id) {
    return std::count(input.banned_tokens.begin(), input.banned_tokens.end(), id) > 0;
  };
  // min_tokens is ignored if it would leave nothing to draw.
  const std::vector<int32_t>& allowed = input.params->allowed_token_ids;
  if (!allowed.empty() && std::all_of(allowed.begin(), allowed.end(), is_banned)) return;
  for (const int32_t id : input.banned_tokens) EditOf(id).penalty = LogitEdit::kBanned;
}

void Sampler::KeepOnly(std::vector<int32_t> allowed, size_t first) {
  std::sort(allowed.begin(), allowed.end());
  const auto is_other = [&](const LogitEdit& edit) {
    return !std::binary_search(allowed.begin(), allowed.end(), edit.token_id);
  };
  edits_.erase(std::remove_if(edits_.begin() + first, edits_.end(), is_other), edits_.end());
}

void Sampler::Start(Backend& backend, TensorView logits, size_t first) {
  tokens_.resize(rows_.size());
  const size_t count = logits.shape[0];
  backend.Sample({.logits = logits,
                  .rows = std::span(rows_).subspan(first, count),
                  .edits = edits_,
                  .masks = masks_,
                  .tokens = std::span(tokens_).subspan(first, count)});
}

absl::Status Sampler::Check(int i) const {
  if (tokens_[i].is_finite) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the model's logits for output token ", rows_[i].counter,
                                          " are not finite: weights or hardware are damaged"));
}

TokenEvent Sampler::Result(int i) const {
  const SampledToken& token = tokens_[i];
  TokenEvent event{.token_id = token.token_id};
  if (rows_[i].num_top < 0) return event;
  event.logprob = token.logprob;
  const int num_top = std::min<int>(rows_[i].num_top, static_cast<int>(edit_of_.size()));
  for (int top = 0; top < num_top; ++top) {
    event.top_logprobs.push_back({token.top_ids[top], token.top_logprobs[top]});
  }
  return event;
}

}  // namespace mea
