#include "server/proto_convert.h"

#include <algorithm>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/clock.h"
#include "engine/sampling_defaults.h"
#include "kernels/status_macros.h"
#include "server/limits.h"
#include "server/proto_convert_prompt.h"
#include "server/request_reader.h"

namespace mea {
namespace {

uint64_t RandomU64() {
  thread_local absl::BitGen bits;
  return absl::Uniform<uint64_t>(bits);
}

void CheckId(const std::string& id, RequestReader& reader) {
  reader.AtMost("request_id", std::ssize(id), kMaxRequestIdBytes, "bytes");
  if (!std::all_of(id.begin(), id.end(), [](char c) { return c >= ' ' && c <= '~'; })) {
    reader.Invalid("request_id", "holds a character that is not printable ASCII");
  }
}

void ReadSampling(const v1::SamplingParams& from, int vocab_size, RequestReader& reader,
                  SamplingParams& to) {
  to.temperature =
      reader.ValueOr(kTemperatureRange, from.has_temperature(), from.temperature(), to.temperature);
  to.top_k = reader.ValueOr(TopKRange(vocab_size), from.has_top_k(), from.top_k(), to.top_k);
  to.top_p = reader.ValueOr(kTopPRange, from.has_top_p(), from.top_p(), to.top_p);
  to.min_p = reader.ValueOr(kMinPRange, from.has_min_p(), from.min_p(), to.min_p);
  to.repetition_penalty = reader.ValueOr(kRepetitionPenaltyRange, from.has_repetition_penalty(),
                                         from.repetition_penalty(), to.repetition_penalty);
  to.presence_penalty = reader.ValueOr(kPresencePenaltyRange, from.has_presence_penalty(),
                                       from.presence_penalty(), to.presence_penalty);
  to.frequency_penalty = reader.ValueOr(kFrequencyPenaltyRange, from.has_frequency_penalty(),
                                        from.frequency_penalty(), to.frequency_penalty);
  to.seed = from.has_seed() ? from.seed() : RandomU64();
  reader.AtMost("sampling.logit_bias", std::ssize(from.logit_bias()), kMaxLogitBias, "entries");
  for (const auto& [id, bias] : from.logit_bias()) {
    reader.TokenId("sampling.logit_bias", id, "key ");
    to.logit_bias.emplace_back(id, reader.Value(kLogitBiasRange, bias));
  }
  std::sort(to.logit_bias.begin(), to.logit_bias.end());
  reader.AtMost("sampling.allowed_token_ids", from.allowed_token_ids_size(), vocab_size, "entries");
  to.allowed_token_ids = reader.TokenIds("sampling.allowed_token_ids", from.allowed_token_ids());
}

void ReadStopping(const v1::StoppingParams& from, int max_context, RequestReader& reader,
                  GenerationSpec& spec) {
  StoppingParams& to = spec.request.stopping;
  if (from.max_tokens() == 0 && from.has_max_tokens() && spec.echo) {
    spec.echo_only = true;
    spec.max_tokens = 1;  // the engine draws at least one token
  } else if (from.has_max_tokens()) {
    spec.max_tokens = reader.Value(MaxTokensRange(max_context), from.max_tokens());
  }
  to.min_tokens = reader.ValueOr(MinTokensRange(max_context), from.has_min_tokens(),
                                 from.min_tokens(), to.min_tokens);
  reader.AtMost("stopping.stop", from.stop_size(), kMaxStopStrings, "strings");
  for (int i = 0; i < from.stop_size(); ++i) {
    const std::string& stop = from.stop(i);
    const std::string field = absl::StrCat("stopping.stop[", i, "]");
    if (stop.empty()) reader.Invalid(field, "is empty");
    reader.AtMost(field, std::ssize(stop), kMaxStopStringBytes, "bytes");
    spec.stop.push_back(stop);
  }
  reader.AtMost("stopping.stop_token_ids", from.stop_token_ids_size(), kMaxStopTokenIds, "entries");
  to.stop_token_ids = reader.TokenIds("stopping.stop_token_ids", from.stop_token_ids());
  to.ignore_eos = from.ignore_eos();
  spec.include_stop = from.include_stop();
  to.is_watched = !spec.stop.empty();
}

// Refuses requests that may draw only tokens that min_tokens forbids.
void RefuseEndsAlone(const GenerationDefaults& defaults, const Request& request,
                     RequestReader& reader) {
  const StoppingParams& stopping = request.stopping;
  const auto ends = [&](int32_t id) {
    const auto is_in = [id](const std::vector<int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    return is_in(stopping.stop_token_ids) ||
           (!stopping.ignore_eos && is_in(defaults.eos_token_ids));
  };
  const std::vector<int32_t>& allowed = request.sampling.allowed_token_ids;
  if (stopping.min_tokens == 0 || allowed.empty()) return;
  if (!std::all_of(allowed.begin(), allowed.end(), ends)) return;
  reader.Invalid("sampling.allowed_token_ids", "holds end tokens alone, which stopping.min_tokens ",
                 stopping.min_tokens, " forbids");
}

void ReadResponse(const v1::ResponseParams& from, RequestReader& reader, GenerationSpec& spec) {
  if (from.has_logprobs()) spec.request.logprobs = reader.Value(kLogprobsRange, from.logprobs());
  spec.request.prompt_logprobs = from.prompt_logprobs();
  spec.echo = from.echo();
  spec.prompt_token_ids = from.prompt_token_ids();
}

}  // namespace

std::string RequestId(const v1::GenerateRequest& request) {
  if (!request.request_id().empty()) return request.request_id();
  return absl::StrFormat("req-%016x", RandomU64());
}

absl::Status CheckModel(const std::string& model, const Serving& serving) {
  if (model.empty() || model == serving.model_name) return absl::OkStatus();
  const std::string named = std::ssize(model) <= kMaxQuotedNameBytes
                                ? absl::StrCat("model '", model, "'")
                                : absl::StrCat("a model with a name of ", model.size(), " bytes");
  return absl::NotFoundError(absl::StrCat(named, " is not served; '", serving.model_name, "' is"));
}

absl::StatusOr<GenerationSpec> FromProto(const v1::GenerateRequest& request, const CallInfo& call,
                                         const Serving& serving) {
  MEA_RETURN_IF_ERROR(CheckModel(request.model(), serving));
  if (call.deadline <= Now()) {
    return absl::DeadlineExceededError("the deadline passed before the request arrived");
  }
  const int vocab_size = serving.engine.config().vocab_size;
  const int max_context = serving.engine.max_context();
  const GenerationDefaults& defaults = serving.engine.generation_defaults();

  GenerationSpec spec;
  spec.max_new_tokens = defaults.max_new_tokens;
  spec.request.deadline = call.deadline;
  spec.request.sampling = DefaultSampling(defaults);
  RequestReader reader(vocab_size);
  spec.request.id = call.request_id;
  spec.trace = call.trace;
  spec.label = call.label;
  spec.text = call.text;
  CheckId(call.request_id, reader);
  ReadPrompt(request, serving, reader, spec);
  ReadStructuredOutput(request, serving, reader, spec);
  ReadSampling(request.sampling(), vocab_size, reader, spec.request.sampling);
  const FieldRange completions = CompletionsRange(serving.engine.options().max_num_seqs);
  spec.n = reader.ValueOr(completions, request.sampling().has_n(), request.sampling().n(), 1);
  ReadResponse(request.response(), reader, spec);
  ReadStopping(request.stopping(), max_context, reader, spec);
  RefuseEndsAlone(defaults, spec.request, reader);
  reader.AtMost("cache.cache_salt", std::ssize(request.cache().cache_salt()), kMaxCacheSaltBytes,
                "bytes");
  spec.request.cache_salt = request.cache().cache_salt();
  spec.request.bypass_prefix_cache = request.cache().bypass_prefix_cache();
  spec.request.priority = reader.Value(kPriorityRange, request.priority());
  if (!reader.status().ok()) return reader.status();
  return spec;
}

absl::Status CheckTokenize(const v1::TokenizeRequest& request, const Serving& serving) {
  MEA_RETURN_IF_ERROR(CheckModel(request.model(), serving));
  RequestReader reader(serving.engine.config().vocab_size);
  reader.AtMost("text", std::ssize(request.text()), kMaxPromptBytes, "bytes");
  return reader.status();
}

absl::Status CheckDetokenize(const v1::DetokenizeRequest& request, const Serving& serving) {
  MEA_RETURN_IF_ERROR(CheckModel(request.model(), serving));
  RequestReader reader(serving.engine.config().vocab_size);
  reader.TokenIds("token_ids", request.token_ids());
  return reader.status();
}

}  // namespace mea
