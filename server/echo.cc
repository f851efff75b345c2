#include "server/echo.h"

#include "engine/text/detokenizer.h"

namespace mea {
namespace {

std::string TextOf(const std::vector<int32_t>& prompt, const Tokenizer& tokenizer) {
  auto detokenizer = Detokenizer::Create(&tokenizer, {});
  if (!detokenizer.ok()) return "";  // a bad stop string, and there is none
  std::string text;
  for (const int32_t id : prompt) text += detokenizer->Push(id).text;
  return text;  // without Finish: what it holds back, the completion's own detokenizer begins with
}

}  // namespace

DeltaOutput MakeEcho(const GenerationSpec& spec, const Tokenizer& tokenizer) {
  const std::vector<int32_t>& prompt = spec.request.prompt;
  DeltaOutput echo{.token_ids = prompt};
  echo.text = spec.prompt_text.empty() ? TextOf(prompt, tokenizer) : spec.prompt_text;
  if (spec.request.logprobs) {
    for (const int32_t id : prompt) echo.logprobs.push_back({.token_id = id});
  }
  return echo;
}

}  // namespace mea
