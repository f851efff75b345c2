// Templates of our own against what transformers makes of them; tools/golden/make_chat_goldens.py
// writes the data.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/engine/text/chat/chat_case.h"

namespace mea {
namespace {

using Json = nlohmann::ordered_json;

const Json& Goldens() {
  static const Json goldens = [] {
    std::ifstream file(MEA_SOURCE_DIR "/tests/engine/text/chat/data/goldens.json");
    return Json::parse(std::string((std::istreambuf_iterator<char>(file)), {}));
  }();
  return goldens;
}

Json RequestOf(const Json& golden) {
  Json request = Goldens()["chat"];
  request["now"] = Goldens()["now"];
  request["special_tokens"] = Goldens()["special_tokens"];
  request.update(golden);
  return request;
}

TEST(ChatGoldenTest, EveryTemplateRendersAsTransformersRendersIt) {
  setenv("TZ", "UTC", 1);
  ASSERT_GT(Goldens()["cases"].size(), 700u);
  for (const Json& golden : Goldens()["cases"]) {
    const Json answer = RenderCase(RequestOf(golden));
    const std::string source = golden["template"].get<std::string>();
    if (golden.contains("error")) {
      EXPECT_TRUE(answer.contains("error"))
          << source << "\nrenders " << answer.dump() << "\ntransformers: " << golden["error"];
    } else {
      ASSERT_FALSE(golden["text"].is_null());
      EXPECT_EQ(answer.value("text", answer.value("error", "")), golden["text"].get<std::string>())
          << source;
    }
  }
}

TEST(ChatGoldenTest, MarksAreSortedAndDisjointAndWithinTheText) {
  for (const Json& golden : Goldens()["cases"]) {
    const Json answer = RenderCase(RequestOf(golden));
    if (!answer.contains("text")) continue;
    int64_t end = -1;
    for (const Json& range : answer["inputs"]) {
      EXPECT_LT(end, range[0].get<int64_t>()) << golden["template"];
      EXPECT_LT(range[0].get<int64_t>(), range[1].get<int64_t>()) << golden["template"];
      end = range[1].get<int64_t>();
    }
    EXPECT_LE(end, static_cast<int64_t>(answer["text"].get<std::string>().size()));
  }
}

}  // namespace
}  // namespace mea
