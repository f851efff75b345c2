#include "tests/engine/text/golden_data.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

namespace mea {

std::string ReadTestData(const std::string& file) {
  const std::string path = MEA_SOURCE_DIR "/tests/engine/text/data/" + file;
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream content;
  content << stream.rdbuf();
  if (!stream) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    std::abort();
  }
  return content.str();
}

const Tokenizer& TestTokenizer(const std::string& kind) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  auto& tokenizer = tokenizers[kind];
  if (tokenizer == nullptr) {
    auto parsed = Tokenizer::Parse(ReadTestData(kind + ".json"), kind + ".json");
    if (!parsed.ok()) {
      std::fprintf(stderr, "%s\n", parsed.status().ToString().c_str());
      std::abort();
    }
    tokenizer = *std::move(parsed);
  }
  return *tokenizer;
}

const std::vector<std::string>& TestStrings() {
  static const auto strings =
      nlohmann::json::parse(ReadTestData("strings.json")).get<std::vector<std::string>>();
  return strings;
}

std::vector<int32_t> RandomIds(int index, int32_t vocab_size) {
  TestRandom random(index);
  // Half of the lists draw from the first 300 ids alone, where single bytes are.
  const int32_t limit = index % 2 ? std::min(vocab_size, 300) : vocab_size;
  std::vector<int32_t> ids(random.Below(40));
  for (int32_t& id : ids) id = random.Below(limit);
  return ids;
}

}  // namespace mea
