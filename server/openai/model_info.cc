#include "server/openai/model_info.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/openai/error.h"
#include "server/proto_convert.h"

namespace mea::openai {
namespace {

constexpr std::string_view kModelsPath = "/v1/models/";

Json ModelJson(const Serving& serving) {
  const MemoryPlan plan = serving.engine.memory_plan();
  return {
      {"id", serving.model_name},
      {"object", "model"},
      {"created", absl::ToUnixSeconds(serving.start_time)},
      {"owned_by", "mea"},
      {"root", serving.model_name},
      {"parent", nullptr},
      {"max_model_len", serving.engine.max_context()},
      {"kv_cache",
       {{"bytes", plan.kv_cache_bytes}, {"bytes_uncompressed", plan.kv_cache_bytes_uncompressed}}}};
}

// "%2F" -> "/"; invalid escapes do not change.
std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
        absl::ascii_isxdigit(text[i + 2])) {
      decoded += absl::HexStringToBytes(std::string(text.substr(i + 1, 2)));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

HttpAnswer ListModels(const Serving& serving) {
  return JsonAnswer({{"object", "list"}, {"data", Json::array({ModelJson(serving)})}});
}

HttpAnswer RetrieveModel(const HttpRequest& request, const Serving& serving) {
  const std::string name =
      PercentDecoded(std::string_view(request.path).substr(kModelsPath.size()));
  if (absl::Status status = CheckModel(name, serving); !status.ok() || name.empty()) {
    return ErrorAnswer(name.empty() ? absl::NotFoundError("the path names no model") : status);
  }
  return JsonAnswer(ModelJson(serving));
}

HttpAnswer TokenizerInfo(const Serving& serving) {
  Json info = {{"vocab_size", serving.engine.config().vocab_size},
               {"tokenizer_vocab_size", serving.tokenizer.vocab_size()},
               {"max_model_len", serving.engine.max_context()},
               {"eos_token_ids", serving.engine.generation_defaults().eos_token_ids},
               {"chat_template", nullptr},
               {"tool_format", NameOf(serving.reply_format.tools)},
               {"reasoning_format", NameOf(serving.reply_format.reasoning)}};
  if (serving.chat != nullptr) info["chat_template"] = serving.chat->source();
  return JsonAnswer(info);
}

}  // namespace mea::openai
