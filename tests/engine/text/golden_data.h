#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"

namespace mea {

// The kinds of tokenizer.json in data/, which tools/golden/make_tokenizers.py has written.
inline constexpr const char* kTokenizerKinds[] = {"gpt2",    "llama3", "qwen2",   "llama2",
                                                  "mistral", "digits", "unknown", "partial"};

std::string ReadTestData(const std::string& file);  // of data/

// Shared by all tests of a program; a file that is missing or refused ends it.
const Tokenizer& TestTokenizer(const std::string& kind);

// data/strings.json
const std::vector<std::string>& TestStrings();

// splitmix64.
class TestRandom {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}

  uint64_t operator()() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  // From 0 to limit - 1.
  int Below(int limit) { return static_cast<int>((*this)() % limit); }

 private:
  uint64_t state_;
};

// List number `index` of random ids, as random_ids of make_tokenizers.py gives it.
std::vector<int32_t> RandomIds(int index, int32_t vocab_size);

}  // namespace mea
