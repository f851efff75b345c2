#include "server/vllm/request.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/field_error.h"

namespace mea::vllm_engine {
namespace {

namespace engine = ::vllm::grpc::engine;

// By the beginning of our path; what follows stays, except for a kind of structured output.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kFields = {{
    {"token_ids.ids", "tokenized.input_ids"},
    {"prompt", "input"},
    {"sampling.", "sampling_params."},
    {"stopping.", "sampling_params."},
    {"response.", "sampling_params."},
    {"structured_output.", "sampling_params."},
    {"structured_output", "sampling_params.constraint"},
}};

absl::Status CheckServed(const engine::GenerateRequest& from) {
  const char* field = nullptr;
  if (from.has_kv_transfer_params()) field = "kv_transfer_params";
  if (from.has_kv_transfer_params_json()) field = "kv_transfer_params_json";
  if (from.has_mm_inputs()) field = "mm_inputs";
  if (from.extra_mm_inputs_size() > 0) field = "extra_mm_inputs";
  if (from.has_media_refs()) field = "media_refs";
  if (from.sampling_params().has_truncate_prompt_tokens()) {
    field = "sampling_params.truncate_prompt_tokens";
  }
  if (field != nullptr) return absl::UnimplementedError(absl::StrCat(field, " is not served"));
  if (from.data_parallel_rank() != 0) {
    return FieldError("data_parallel_rank",
                      absl::StrCat(from.data_parallel_rank(), " is not 0, the only one"));
  }
  return absl::OkStatus();
}

// Of their unsigned numbers, those that ours cannot hold; what they may be, FromProto checks.
absl::Status CheckFits(const engine::GenerateRequest& from) {
  const engine::SamplingParams& sampling = from.sampling_params();
  const auto check = [](const char* field, uint32_t value) {
    if (value <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
    return FieldError(field, absl::StrCat(value, " exceeds ", std::numeric_limits<int32_t>::max()));
  };
  absl::Status status = check("sampling_params.top_k", sampling.top_k());
  status.Update(check("sampling_params.n", sampling.n()));
  status.Update(check("sampling_params.max_tokens", sampling.max_tokens()));
  status.Update(check("sampling_params.min_tokens", sampling.min_tokens()));
  for (const uint32_t id : sampling.stop_token_ids()) {
    status.Update(check("sampling_params.stop_token_ids", id));
  }
  for (const uint32_t id : from.tokenized().input_ids()) {
    status.Update(check("tokenized.input_ids", id));
  }
  return status;
}

void ReadSampling(const engine::SamplingParams& from, v1::SamplingParams& to) {
  to.set_temperature(from.has_temperature() ? from.temperature() : 1.0f);
  to.set_top_p(from.top_p() == 0 ? 1.0f : from.top_p());
  to.set_top_k(static_cast<int32_t>(from.top_k()));
  to.set_min_p(from.min_p());
  to.set_frequency_penalty(from.frequency_penalty());
  to.set_presence_penalty(from.presence_penalty());
  to.set_repetition_penalty(from.repetition_penalty() == 0 ? 1.0f : from.repetition_penalty());
  if (from.has_seed()) to.set_seed(static_cast<uint64_t>(int64_t{from.seed()}));
  if (from.n() > 0) to.set_n(static_cast<int32_t>(from.n()));
  *to.mutable_logit_bias() = from.logit_bias();
}

void ReadStopping(const engine::SamplingParams& from, v1::StoppingParams& to) {
  if (from.has_max_tokens()) to.set_max_tokens(static_cast<int32_t>(from.max_tokens()));
  to.set_min_tokens(static_cast<int32_t>(from.min_tokens()));
  *to.mutable_stop() = from.stop();
  to.mutable_stop_token_ids()->Add(from.stop_token_ids().begin(), from.stop_token_ids().end());
  to.set_ignore_eos(from.ignore_eos());
  // A router sees how a completion ended by its last token. Text is not sent, so it is cut there.
  to.set_include_stop(true);
}

void ReadResponse(const engine::SamplingParams& from, v1::ResponseParams& to) {
  to.set_prompt_logprobs(from.has_prompt_logprobs());
  if (from.has_logprobs()) to.set_logprobs(from.logprobs());
  // Our alternatives are as many for the prompt as for the output: the larger number, cut later.
  if (from.has_prompt_logprobs()) {
    const bool wanted = from.has_logprobs();
    const int32_t least = std::min(from.prompt_logprobs(), wanted ? from.logprobs() : 0);
    const int32_t most =
        wanted ? std::max(from.prompt_logprobs(), from.logprobs()) : from.prompt_logprobs();
    to.set_logprobs(least < 0 ? least : most);
  }
}

void ReadConstraint(const engine::SamplingParams& from, v1::GenerateRequest& request) {
  if (from.constraint_case() == engine::SamplingParams::CONSTRAINT_NOT_SET) return;
  v1::StructuredOutput& to = *request.mutable_structured_output();
  switch (from.constraint_case()) {
    case engine::SamplingParams::kJsonSchema:
      to.set_json_schema(from.json_schema());
      return;
    case engine::SamplingParams::kRegex:
      to.set_regex(from.regex());
      return;
    case engine::SamplingParams::kGrammar:
      to.set_grammar(from.grammar());
      return;
    case engine::SamplingParams::kStructuralTag:
      to.set_structural_tag(from.structural_tag());
      return;
    case engine::SamplingParams::kJsonObject:
      to.set_json_object(from.json_object());
      return;
    case engine::SamplingParams::kChoice:
      *to.mutable_choice()->mutable_values() = from.choice().choices();
      return;
    case engine::SamplingParams::CONSTRAINT_NOT_SET:
      return;
  }
}

}  // namespace

absl::Status ToOurs(const engine::GenerateRequest& from, v1::GenerateRequest& to) {
  to.set_request_id(from.request_id());
  MEA_RETURN_IF_ERROR(CheckServed(from));
  MEA_RETURN_IF_ERROR(CheckFits(from));
  switch (from.input_case()) {
    case engine::GenerateRequest::kTokenized: {
      const auto& ids = from.tokenized().input_ids();
      to.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
      break;
    }
    case engine::GenerateRequest::kText:
      to.set_text(from.text());
      break;
    case engine::GenerateRequest::INPUT_NOT_SET:
      return FieldError("input", "is not set; send tokenized or text");
  }
  ReadSampling(from.sampling_params(), *to.mutable_sampling());
  ReadStopping(from.sampling_params(), *to.mutable_stopping());
  ReadResponse(from.sampling_params(), *to.mutable_response());
  ReadConstraint(from.sampling_params(), to);
  return absl::OkStatus();
}

absl::Status ToTheirs(const absl::Status& status) {
  const std::optional<std::string> ours = FieldOf(status);
  if (!ours) return status;
  const auto field = std::find_if(kFields.begin(), kFields.end(), [&](const auto& names) {
    return ours->starts_with(names.first);
  });
  if (field == kFields.end()) return status;
  const std::string theirs = absl::StrCat(field->second.data(), ours->substr(field->first.size()));
  std::string message(status.message());
  if (message.starts_with(*ours)) message = theirs + message.substr(ours->size());
  absl::Status renamed(status.code(), message);
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    renamed.SetPayload(type, payload);
  });
  return WithField(renamed, theirs);
}

}  // namespace mea::vllm_engine
