// Documents that a schema must and must not let through, byte by byte.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/engine/grammar/byte_grammar.h"

namespace mea::testing {
namespace {

using nlohmann::ordered_json;

struct SchemaLine {
  std::string place;
  std::string schema;
  std::vector<std::string> good;
  std::vector<std::string> bad;
};

std::vector<SchemaLine> ReadSchemas(const std::string& name) {
  const std::string path = absl::StrCat(MEA_SOURCE_DIR "/tests/engine/grammar/data/", name);
  std::vector<SchemaLine> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const ordered_json entry = ordered_json::parse(line);
    lines.push_back({.place = absl::StrCat(name, ":", lines.size() + 1),
                     .schema = entry.at("schema").dump(),
                     .good = entry.at("good").get<std::vector<std::string>>(),
                     .bad = entry.at("bad").get<std::vector<std::string>>()});
  }
  return lines;
}

// How many of the schemas are refused as not supported; the others are held.
int CheckSchemas(const std::vector<SchemaLine>& lines) {
  int num_refused = 0;
  const std::unique_ptr<GrammarCompiler> compiler = MakeByteCompiler();
  for (const SchemaLine& line : lines) {
    SCOPED_TRACE(absl::StrCat(line.place, " ", line.schema.substr(0, 300)));
    const auto grammar =
        compiler->Compile({.kind = GrammarSpec::Kind::kJsonSchema, .text = line.schema});
    if (!grammar.ok()) {
      EXPECT_TRUE(absl::StrContains(grammar.status().message(), "not supported"))
          << grammar.status();
      ++num_refused;
      continue;
    }
    for (const std::string& document : line.good) {
      const Walk walk = WalkText(**grammar, document);
      EXPECT_TRUE(walk.may_end) << document << " stops at byte " << walk.num_accepted;
    }
    for (const std::string& document : line.bad) {
      EXPECT_FALSE(Matches(**grammar, document)) << document;
    }
  }
  return num_refused;
}

TEST(SchemaTest, LetsThroughWhatMatchesAndNothingElse) {
  const std::vector<SchemaLine> lines = ReadSchemas("schemas_own.jsonl");
  ASSERT_GT(lines.size(), 20u);
  EXPECT_EQ(CheckSchemas(lines), 0);
}

// A larger collection, where it is there.
TEST(SchemaTest, HoldsTheCollection) {
  const std::vector<SchemaLine> lines = ReadSchemas("schemas.jsonl");
  EXPECT_LE(CheckSchemas(lines), static_cast<int>(lines.size() / 50));
}

struct Refusal {
  std::string schema;
  std::string message;  // part of it
};

TEST(SchemaTest, RefusesByNameWhatItCannotHold) {
  const std::unique_ptr<GrammarCompiler> compiler = MakeByteCompiler();
  std::string many_keys = "{";
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&many_keys, "\"", i, "\":1,");
  const std::vector<Refusal> refusals = {
      {R"({"not":{"type":"string"}})", "not is not supported"},
      {R"({"if":{},"then":{}})", "if is not supported"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"array","contains":{}})", "contains"},
      {R"({"properties":{"a":{"dependentRequired":{}}}})", "/properties/a: dependentRequired"},
      {R"({"$ref":"https://example.com/s.json"})", "leads out of the document"},
      {R"({"$ref":"#/$defs/x"})", "points to no schema"},
      {R"({"$ref":"#/examples/0","examples":[{}]})", "points to no schema"},
      {R"({"$ref":"#"})", "Circular"},
      {R"({"$ref":"#/$defs/a","type":"string","$defs":{"a":{}}})", "type beside $ref"},
      {R"({"enum":["a"],"minLength":1})", "minLength beside enum"},
      {R"({"enum":[1],"type":"string"})", "no value of enum is of its type"},
      {R"({"allOf":[{},{}]})", "allOf"},
      {R"({"oneOf":[{"type":"number"},{"type":"integer"}]})", "oneOf"},
      {R"({"type":"object","properties":{"a":{}},"anyOf":[{},{}]})", "properties beside anyOf"},
      {R"({"type":"number","multipleOf":0.1})", "multipleOf"},
      {R"({"type":"integer","multipleOf":3,"minimum":1})", "multipleOf"},
      {R"({"minLength":1,"minimum":2})", "type is missing"},
      {R"({"type":"text"})", "type is not one of"},
      {R"({"type":"string","pattern":"(?=a)b"})", "Lookahead"},
      {R"({"type":"string","pattern":"a^b"})", "anchor"},
      {R"({"type":"string","pattern":"a","maxLength":3})", "beside pattern"},
      {R"({"type":"string","format":"date","maxLength":3})", "beside format"},
      {R"({"type":"string","pattern":"(a|b){1,9999}"})", "too many characters"},
      {R"({"type":"string","maxLength":10001})", "maxLength 10001 is outside 0..10000"},
      {R"({"type":"array","minItems":-1})", "minItems -1 is outside"},
      {R"({"type":"object","minProperties":2})", "minProperties"},
      {R"({"type":"object","patternProperties":{"a":{},"b":{}}})", "more than one pattern"},
      {R"({"type":"object","required":["a"],"additionalProperties":false})", "not among"},
      {R"({"minimum":3,"maximum":2,"type":"integer"})", "minimum greater than maximum"},
      {R"({"enum":[]})", "enum"},
      {R"(false)", "matches nothing"},
      {R"([1])", "neither an object nor a boolean"},
      {R"({"type":)", "not valid JSON"},
      {std::string(300, '['), "deeper than 256"},
      {many_keys, "too many keys"},
      {absl::StrCat("\"", std::string(300 << 10, 'x'), "\""), "bytes exceeds 262144"},
  };
  for (const Refusal& refusal : refusals) {
    const absl::Status status =
        compiler->Compile({.kind = GrammarSpec::Kind::kJsonSchema, .text = refusal.schema})
            .status();
    SCOPED_TRACE(refusal.schema.substr(0, 200));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    const std::string message(status.message());
    EXPECT_NE(message.find(refusal.message), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(SchemaTest, LargeSchemasAreRefusedOrFast) {
  const std::unique_ptr<GrammarCompiler> compiler = MakeByteCompiler();
  ordered_json many = {{"type", "object"}};
  for (int i = 0; i < 1000; ++i) many["properties"][absl::StrCat("p", i)] = {{"type", "null"}};
  const auto compile = [&](const ordered_json& schema) {
    return compiler->Compile({.kind = GrammarSpec::Kind::kJsonSchema, .text = schema.dump()});
  };
  EXPECT_EQ(compile(many).status().code(), absl::StatusCode::kInvalidArgument);  // all optional
  many["required"] = ordered_json::array();
  for (int i = 0; i < 1000; ++i) many["required"].push_back(absl::StrCat("p", i));
  EXPECT_TRUE(compile(many).ok());

  ordered_json deep = {{"type", "string"}};
  for (int i = 0; i < 60; ++i) deep = {{"type", "array"}, {"items", deep}};
  EXPECT_TRUE(compile(deep).ok());
  for (int i = 0; i < 10; ++i) deep = {{"type", "array"}, {"items", deep}};
  EXPECT_EQ(compile(deep).status().code(), absl::StatusCode::kInvalidArgument);

  ordered_json values = ordered_json::array();
  for (int i = 0; i < 4001; ++i) values.push_back(i);
  EXPECT_EQ(compile({{"enum", values}}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mea::testing
