// Any text for each kind of tokenizer: there, back, and back token by token.
#include <memory>
#include <string>
#include <vector>

#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::vector<std::unique_ptr<mea::Tokenizer>> LoadTokenizers() {
  std::vector<std::unique_ptr<mea::Tokenizer>> tokenizers;
  for (const char* name :
       {"gpt2", "llama2", "llama3", "mistral", "qwen2", "digits", "partial", "unknown"}) {
    const std::string path =
        std::string(MEA_SOURCE_DIR "/tests/engine/text/data/") + name + ".json";
    tokenizers.push_back(mea::Tokenizer::Load(path).value());
  }
  return tokenizers;
}

std::string Detokenized(const mea::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                        bool skip_special) {
  auto detokenizer =
      mea::Detokenizer::Create(&tokenizer, {.skip_special_tokens = skip_special}).value();
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = detokenizer.Push(id).text;
    mea::fuzz::Require(mea::IsValidUtf8(piece), "each piece is UTF-8");
    text += piece;
  }
  return text + detokenizer.Finish().text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& tokenizers = *new auto(LoadTokenizers());
  mea::fuzz::Input input(data, size);
  const mea::Tokenizer& tokenizer = *tokenizers[input.Choose(tokenizers.size())];
  const size_t bits = input.Choose(8);
  const bool skip_special = (bits & 4) != 0;
  const std::string_view text = input.Rest();
  const std::pair<size_t, size_t> literal{text.size() / 3, text.size() * 2 / 3};
  mea::EncodeOptions options{.add_special_tokens = (bits & 1) != 0,
                             .parse_special = (bits & 2) != 0};
  if (bits == 7 && literal.first < literal.second) options.literal = {&literal, 1};
  const std::vector<int32_t> ids = tokenizer.Encode(text, options);
  const std::string decoded = tokenizer.Decode(ids, skip_special);
  mea::fuzz::Require(mea::IsValidUtf8(decoded), "decoded text is UTF-8");
  mea::fuzz::Require(Detokenized(tokenizer, ids, skip_special) == decoded,
                     "pieces add up to the whole");
  // The bytes themselves, as ids.
  std::vector<int32_t> raw;
  for (const char c : text) {
    raw.push_back(static_cast<unsigned char>(c) * tokenizer.vocab_size() / 256);
  }
  mea::fuzz::Require(
      Detokenized(tokenizer, raw, skip_special) == tokenizer.Decode(raw, skip_special),
      "pieces of any ids add up to the whole");
  return 0;
}
