#include "tests/server/test_tokenizer.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "kernels/check.h"
#include "tests/server/fake_engine.h"

namespace mea::testing {
namespace {

// The printable character that stands for a byte in byte-level vocabularies (GPT-2), as UTF-8.
std::string CharacterOf(int byte, int& next_spare) {
  const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const int code = printable ? byte : next_spare++;
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

}  // namespace

std::unique_ptr<Tokenizer> MakeTestTokenizer() {
  nlohmann::json vocab;
  int next_spare = 256;
  for (int byte = 0; byte < 256; ++byte) vocab[CharacterOf(byte, next_spare)] = byte;
  vocab[std::string(kLongTokenBytes, 'x')] = kLongToken;
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", false},
                                     {"use_regex", false}};
  const nlohmann::json file = {{"version", "1.0"},
                               {"truncation", nullptr},
                               {"padding", nullptr},
                               {"added_tokens",
                                {{{"id", kEos},
                                  {"content", "<|end|>"},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false},
                                  {"special", true}}}},
                               {"normalizer", nullptr},
                               {"pre_tokenizer", byte_level},
                               {"post_processor", nullptr},
                               {"decoder", byte_level},
                               {"model",
                                {{"type", "BPE"},
                                 {"dropout", nullptr},
                                 {"unk_token", nullptr},
                                 {"continuing_subword_prefix", nullptr},
                                 {"end_of_word_suffix", nullptr},
                                 {"fuse_unk", false},
                                 {"byte_fallback", false},
                                 {"vocab", vocab},
                                 {"merges", nlohmann::json::array()}}}};
  auto tokenizer = Tokenizer::Parse(file.dump(), "test tokenizer");
  MEA_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

}  // namespace mea::testing
