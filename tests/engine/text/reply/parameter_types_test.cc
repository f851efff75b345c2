#include "engine/text/reply/parameter_types.h"

#include <gtest/gtest.h>

#include "engine/text/reply/pythonic_call.h"
#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

TEST(ParameterTypesTest, ReadsTheTypesOfASchema) {
  const ParameterTypes types = TestParameterTypes();
  EXPECT_EQ(types.Of("f", "n"), ParameterTypes::kInteger);
  EXPECT_EQ(types.Of("f", "maybe"), ParameterTypes::kString | ParameterTypes::kNull);
  EXPECT_EQ(types.Of("f", "pick"), ParameterTypes::kWord | ParameterTypes::kInteger);
  EXPECT_EQ(types.Of("f", "other"), ParameterTypes::kString);
  EXPECT_EQ(types.Of("other", "n"), ParameterTypes::kString);
}

// As pydantic writes classes within classes.
TEST(ParameterTypesTest, FollowsReferencesToDefinitions) {
  const auto types = *ParameterTypes::Read(R"([{"function": {"name": "f", "parameters": {
      "properties": {"inner": {"$ref": "#/$defs/Inner"}, "none": {"$ref": "#/$defs/None"},
        "maybe": {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}]},
        "loop": {"$ref": "#/$defs/Loop"}},
      "$defs": {"Inner": {"type": "object"}, "Loop": {"$ref": "#/$defs/Loop"},
        "Color": {"type": "string", "enum": ["red", "blue"]}}}}}])");
  EXPECT_EQ(types.Of("f", "inner"), ParameterTypes::kObject);
  EXPECT_EQ(types.Of("f", "maybe"), ParameterTypes::kWord | ParameterTypes::kNull);
  EXPECT_EQ(types.Of("f", "loop"), ParameterTypes::kString);
  EXPECT_EQ(types.Of("f", "none"), ParameterTypes::kString);
}

TEST(ParameterTypesTest, StringsThatAreListedOrShapedAreWords) {
  const auto types = *ParameterTypes::Read(R"([{"function": {"name": "f", "parameters": {
      "properties": {"word": {"type": "string", "enum": ["a", "b c"]}, "const": {"const": "a"},
        "blank": {"enum": ["a", " b"]}, "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"}, "text": {"type": "string", "maxLength": 9},
        "free": {"anyOf": [{"enum": ["a"]}, {"type": "string"}]}}}}}])");
  EXPECT_EQ(types.Of("f", "word"), ParameterTypes::kWord);
  EXPECT_EQ(types.Of("f", "const"), ParameterTypes::kWord);
  EXPECT_EQ(types.Of("f", "day"), ParameterTypes::kWord);
  EXPECT_EQ(types.Of("f", "code"), ParameterTypes::kWord);
  EXPECT_EQ(types.Of("f", "text"), ParameterTypes::kString);
  EXPECT_TRUE(types.Of("f", "blank") & ParameterTypes::kString);
  EXPECT_TRUE(types.Of("f", "free") & ParameterTypes::kString);
}

TEST(ParameterTypesTest, WhatIsWrongIsNamed) {
  EXPECT_EQ(ParameterTypes::Read("{").status().message(), "tools is not an array of JSON");
  EXPECT_EQ(ParameterTypes::Read(R"([{"function": {}}])").status().message(),
            "tools[0].function.name is no string");
  EXPECT_EQ(ParameterTypes::Read(R"([1])").status().message(),
            "tools[0].function is not an object");
}

TEST(ParameterTypesTest, TextBecomesTheFirstTypeThatItFits) {
  using P = ParameterTypes;
  const auto json = [](std::string_view text, int types) {
    return reply::JsonOfText(text, static_cast<uint8_t>(types));
  };
  EXPECT_EQ(json("7", P::kString), "\"7\"");
  EXPECT_EQ(json(" 7 ", P::kInteger), "7");
  EXPECT_EQ(json(" a\n", P::kString), "\" a\\n\"");
  EXPECT_EQ(json(" a\n", P::kWord), "\"a\"");
  EXPECT_EQ(json(" a\n", P::kWord | P::kString), "\" a\\n\"");
  EXPECT_EQ(json(" a\n", P::kWord | P::kNull), "\"a\"");
  EXPECT_EQ(json("7.5", P::kInteger), "7.5");
  EXPECT_EQ(json("7.5", P::kInteger | P::kString), "\"7.5\"");
  EXPECT_EQ(json("1e999", P::kNumber), "\"1e999\"");
  EXPECT_EQ(json("TRUE", P::kBoolean), "true");
  EXPECT_EQ(json("0", P::kBoolean), "false");
  EXPECT_EQ(json("null", P::kNull | P::kString), "null");
  EXPECT_EQ(json("[1, {}]", P::kArray), "[1, {}]");
  EXPECT_EQ(json("[1, {", P::kArray), "\"[1, {\"");
  EXPECT_EQ(json("{\"a\": 1}", P::kObject), "{\"a\": 1}");
  EXPECT_EQ(json("a\n\"\x01", P::kObject), "\"a\\n\\\"\\u0001\"");
}

TEST(PythonLiteralsTest, BecomeJson) {
  const auto json = [](std::string_view text) {
    return reply::PythonArgumentsToJson(text).value_or("none");
  };
  EXPECT_EQ(json(""), "{}");
  EXPECT_EQ(json("a=1, b = 'x' 'y' ,"), R"({"a": 1, "b": "xy"})");
  EXPECT_EQ(json(R"(a="\t\x41\u00e9\U0001F600\q\'")"), "{\"a\": \"\\tA\u00e9\U0001F600\\\\q'\"}");
  EXPECT_EQ(json(R"(a="\ud83d\ude00")"), "{\"a\": \"\U0001F600\"}");
  EXPECT_EQ(json("a=[], b={}, c=(), d=[[1,],{'k':{}}]"),
            R"({"a": [], "b": {}, "c": [], "d": [[1], {"k": {}}]})");
  EXPECT_EQ(json("a=True,b=false,c=None"), R"({"a": true, "b": false, "c": null})");
  for (const char* text : {"1", "a", "a=", "a=b", "a=1 b=2", "a='x", "a=[1", "a={1: 2}", "a={'k'}",
                           "a=f()", "a=1,,b=2", "a='\\ud800'", "a='\\u12'", "=1", "a=1_0"}) {
    EXPECT_EQ(json(text), "none") << text;
  }
  const std::string deep = "a=" + std::string(100000, '[') + std::string(100000, ']');
  EXPECT_EQ(json(deep), "none");
}

}  // namespace
}  // namespace mea
