// A tokenizer.json, and a text for it behind a NUL.
#include <string>

#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mea::fuzz::Input input(data, size);
  const std::string json(input.Part());
  const auto tokenizer = mea::Tokenizer::Parse(json, "tokenizer.json");
  if (!tokenizer.ok()) {
    mea::fuzz::Require(!tokenizer.status().message().empty(), "a refusal says why");
    return 0;
  }
  const std::vector<int32_t> ids = (*tokenizer)->Encode(input.Rest());
  for (const int32_t id : ids) {
    mea::fuzz::Require(id >= 0 && id < (*tokenizer)->vocab_size(), "ids are of the vocabulary");
  }
  mea::fuzz::Require(mea::IsValidUtf8((*tokenizer)->Decode(ids, false)), "decoded text is UTF-8");
  return 0;
}
