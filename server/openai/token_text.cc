#include "server/openai/token_text.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace mea::openai {

std::string TokenText::Text(int32_t id) const {
  if (as_ids_) return absl::StrCat("token_id:", id);
  const std::string_view bytes = tokenizer_.TokenBytes(id);
  return IsValidUtf8(bytes) ? std::string(bytes) : ReplaceInvalidUtf8(bytes);
}

Json TokenText::Bytes(int32_t id) const {
  Json bytes = Json::array();
  for (const char c : tokenizer_.TokenBytes(id)) bytes.push_back(static_cast<uint8_t>(c));
  return bytes;
}

Json PromptLogprobsJson(const TokenText& tokens, const std::vector<PositionLogprob>& positions) {
  Json list = Json::array();
  for (const PositionLogprob& position : positions) {
    Json entry;
    const auto add = [&](int32_t id, float logprob, const Json& rank) {
      entry[absl::StrCat(id)] = {
          {"logprob", logprob}, {"rank", rank}, {"decoded_token", tokens.Text(id)}};
    };
    if (position.logprob) add(position.token_id, *position.logprob, nullptr);
    int rank = 0;
    for (const TokenLogprob& top : position.top) add(top.token_id, top.logprob, ++rank);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace mea::openai
