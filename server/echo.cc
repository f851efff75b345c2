#include "server/echo.h"

#include "engine/text/detokenizer.h"

namespace mea {

DeltaOutput MakeEcho(const GenerationSpec& spec, const Tokenizer& tokenizer) {
  const std::vector<int32_t>& prompt = spec.request.prompt;
  DeltaOutput echo{.text = spec.prompt_text, .token_ids = prompt};
  auto detokenizer = Detokenizer::Create(&tokenizer, {});
  if (!detokenizer.ok()) return echo;  // only a bad stop string fails, and there is none
  for (const int32_t id : prompt) {
    if (spec.request.logprobs) {
      echo.logprobs.push_back({.token_id = id, .text_offset = detokenizer->num_code_points()});
    }
    const std::string text = detokenizer->Push(id).text;
    if (spec.prompt_text.empty()) echo.text += text;
  }
  return echo;  // without Finish: the detokenizer of the completion begins with the text that this
                // one holds back
}

}  // namespace mea
