// What a tokenizer.json must not hold, and the line that says so.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/text/tokenizer.h"
#include "tests/engine/text/golden_data.h"

namespace mea {
namespace {

using Json = nlohmann::json;

// A small file that is right, with one component of each sort.
Json RightFile() {
  return Json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\p{L}+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "byte_fallback": false,
              "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3}, "merges": ["a b", ["ab", "b"]]}
  })");
}

struct BrokenFile {
  const char* name;
  const char* path;  // JSON pointer
  Json value;        // put there; a discarded value removes what is there
  const char* message;
};
void PrintTo(const BrokenFile& file, std::ostream* stream) { *stream << file.message; }

Json Removed() { return Json(Json::value_t::discarded); }
Json Step(const char* type) { return Json{{"type", type}}; }
Json SplitOn(const char* pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
}
Json NestedSequence(int depth) {
  Json node = Step("NFC");
  for (int i = 0; i < depth; ++i) {
    node = {{"type", "Sequence"}, {"normalizers", Json::array({std::move(node)})}};
  }
  return node;
}

const std::vector<BrokenFile>& BrokenFiles() {
  static const std::vector<BrokenFile> files = {
      // model
      {"NoModel", "/model", Removed(), "model is missing"},
      {"ModelIsNull", "/model", nullptr, "model null is not an object"},
      {"Unigram", "/model/type", "Unigram", R"(model.type "Unigram" is not supported (BPE is))"},
      {"TypeIsNumber", "/model/type", 1, "model.type 1 is not a string"},
      {"NoVocab", "/model/vocab", Removed(), "model.vocab is missing"},
      {"VocabIsArray", "/model/vocab", Json::array({"a"}),
       "model.vocab (an array) is not an object"},
      {"VocabIsEmpty", "/model/vocab", Json::object(), "model.vocab is empty"},
      {"IdIsString", "/model/vocab/b", "1", R"(model.vocab["b"] "1" is not an integer)"},
      {"IdIsFraction", "/model/vocab/b", 1.5, R"(model.vocab["b"] 1.5 is not an integer)"},
      {"IdIsNegative", "/model/vocab/b", -1, R"(model.vocab["b"] -1 is outside 0..16777215)"},
      {"IdIsLarge", "/model/vocab/b", 3000000000,
       R"(model.vocab["b"] 3000000000 is outside 0..16777215)"},
      {"IdIsHuge", "/model/vocab/b", UINT64_MAX,
       R"(model.vocab["b"] 18446744073709551615 is outside 0..16777215)"},
      {"IdTwice", "/model/vocab/b", 0, R"(model.vocab["b"] 0 is the id of "a" too)"},
      {"LineBreakInToken", "/model/vocab/b\nb", 0, R"(model.vocab["b\nb"] 0 is the id of "a" too)"},
      {"NoMerges", "/model/merges", Removed(), "model.merges is missing"},
      {"MergesIsObject", "/model/merges", Json::object(),
       "model.merges (an object) is not an array"},
      {"MergeOfUnknown", "/model/merges/0", "a z",
       R"(model.merges[0] names "z", which model.vocab lacks)"},
      {"MergeIntoUnknown", "/model/merges/1", "b a",
       R"(model.merges[1] names "ba", which model.vocab lacks)"},
      {"MergeOfThree", "/model/merges/0", "a b b",
       R"(model.merges[0] "a b b" is not a pair of tokens)"},
      {"MergeOfOne", "/model/merges/1", Json::array({"a"}),
       "model.merges[1] (an array) is not a pair of tokens"},
      {"MergeIsNumber", "/model/merges/1", 7, "model.merges[1] 7 is not a pair of tokens"},
      {"MergeOfNumbers", "/model/merges/1", Json::array({0, 1}),
       "model.merges[1][0] 0 is not a string"},
      {"UnkIsUnknown", "/model/unk_token", "<unk>",
       R"(model.unk_token names "<unk>", which model.vocab lacks)"},
      {"FlagIsString", "/model/byte_fallback", "yes",
       R"(model.byte_fallback "yes" is not true or false)"},
      {"Dropout", "/model/dropout", 0.1, "model.dropout 0.1 is not supported (it is for training)"},
      {"Suffix", "/model/end_of_word_suffix", "</w>",
       R"(model.end_of_word_suffix "</w>" is not supported)"},
      // added_tokens
      {"AddedIsObject", "/added_tokens", Json::object(),
       "added_tokens (an object) is not an array"},
      {"AddedLacksFlag", "/added_tokens/0/lstrip", Removed(), "added_tokens[0].lstrip is missing"},
      {"AddedIsEmpty", "/added_tokens/0/content", "", "added_tokens[0].content is empty"},
      {"AddedIdIsTaken", "/added_tokens/0/id", 3, R"(added_tokens[0].id 3 is the id of "abb" too)"},
      {"AddedIdDiffers", "/added_tokens/0/content", "ab",
       R"(added_tokens[0].id 4 is not 2, the id of "ab")"},
      {"AddedTwice", "/added_tokens/1", RightFile()["added_tokens"][0],
       R"(added_tokens[1].content "<s>" is there twice)"},
      // normalizer
      {"NormalizerType", "/normalizer/normalizers/0/type", "Precompiled",
       R"(normalizer.normalizers[0].type "Precompiled" is not supported (NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase and Strip are))"},
      {"NormalizerIsString", "/normalizer", "NFC", R"(normalizer "NFC" is not an object)"},
      {"DeepNesting", "/normalizer", NestedSequence(9),
       "normalizer.normalizers[0].normalizers[0].normalizers[0].normalizers[0].normalizers[0]"
       ".normalizers[0].normalizers[0].normalizers[0] nests deeper than 8"},
      {"EmptyPattern",
       "/normalizer",
       {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", " "}},
       "normalizer.pattern.String is empty"},
      // pre_tokenizer
      {"PreTokenizerType", "/pre_tokenizer", Step("BertPreTokenizer"),
       R"(pre_tokenizer.type "BertPreTokenizer" is not supported (Split, Digits, ByteLevel and Metaspace are))"},
      {"StepAfterByteLevel",
       "/pre_tokenizer/pretokenizers/2",
       {{"type", "Digits"}, {"individual_digits", true}},
       "pre_tokenizer.pretokenizers[2] follows ByteLevel, which is supported as the last step "
       "only"},
      {"Behavior", "/pre_tokenizer/pretokenizers/0/behavior", "Sideways",
       R"(pre_tokenizer.pretokenizers[0].behavior "Sideways" is not supported)"},
      {"NoPattern", "/pre_tokenizer/pretokenizers/0/pattern", Json::object(),
       "pre_tokenizer.pretokenizers[0].pattern.Regex is missing"},
      {"PatternLacksBracket", "/pre_tokenizer", SplitOn("(a"),
       R"(pre_tokenizer.pattern.Regex "(a" is not supported: "missing closing parenthesis")"},
      {"PatternWithBoundary", "/pre_tokenizer", SplitOn("\\bno"),
       R"(pre_tokenizer.pattern.Regex "\\bno" is not supported: "\\b")"},
      {"TwoCharacterMetaspace",
       "/pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "__"}, {"prepend_scheme", "always"}},
       R"(pre_tokenizer.replacement "__" is not one character)"},
      {"PrependScheme",
       "/pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}},
       R"(pre_tokenizer.prepend_scheme "last" is not supported)"},
      // post_processor
      {"PostProcessorType", "/post_processor/type", "BertProcessing",
       R"(post_processor.type "BertProcessing" is not supported (TemplateProcessing and ByteLevel are))"},
      {"TemplateTokenIsMissing", "/post_processor/special_tokens/<s>", Removed(),
       "post_processor.special_tokens.<s> is missing"},
      {"TemplateIdIsUnknown", "/post_processor/special_tokens/<s>/ids/0", 99,
       "post_processor.special_tokens.<s>.ids[0] 99 is the id of no token"},
      {"TemplateWithoutText", "/post_processor/single/1", Removed(),
       "post_processor.single does not have exactly one sequence A"},
      {"TemplateOfPair", "/post_processor/single/1/Sequence/id", "B",
       "post_processor.single[1].SpecialToken is missing"},
      // decoder
      {"DecoderType", "/decoder", Step("WordPiece"),
       R"(decoder.type "WordPiece" is not supported (Replace, ByteFallback, Fuse and Strip in this order are))"},
      {"DecoderOrder", "/decoder/decoders/0", Step("Fuse"),
       R"(decoder.decoders[1].type "ByteFallback" is out of order)"},
      {"DecoderTwice", "/decoder/decoders/2", Step("ByteFallback"),
       R"(decoder.decoders[2].type "ByteFallback" is out of order)"},
      {"StripWithoutFuse", "/decoder/decoders/2", Removed(),
       R"(decoder.decoders[2].type "Strip" is supported right after Fuse only)"},
      {"StripAtTheEnd", "/decoder/decoders/3/stop", 1,
       "decoder.decoders[3].stop 1 is not supported (0 is)"},
  };
  return files;
}

std::string MessageFor(const std::string& json) {
  const auto tokenizer = Tokenizer::Parse(json, "tokenizer.json");
  return std::string(tokenizer.status().message());
}

class BrokenTokenizerTest : public testing::TestWithParam<BrokenFile> {};

TEST_P(BrokenTokenizerTest, IsRefusedWithOneLine) {
  Json file = RightFile();
  const Json::json_pointer where(GetParam().path);
  if (GetParam().value.is_discarded()) {
    Json& parent = file[where.parent_pointer()];
    if (parent.is_array()) {
      parent.erase(std::stoi(where.back()));
    } else {
      parent.erase(where.back());
    }
  } else {
    file[where] = GetParam().value;
  }
  const auto tokenizer = Tokenizer::Parse(file.dump(), "tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MessageFor(file.dump()), std::string("tokenizer.json: ") + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Files, BrokenTokenizerTest, testing::ValuesIn(BrokenFiles()),
                         [](const auto& file) { return std::string(file.param.name); });

TEST(TokenizerLoadTest, TheRightFileIsAccepted) {
  const auto tokenizer = Tokenizer::Parse(RightFile().dump(), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("abb"), (std::vector<int32_t>{4, 3}));
  EXPECT_EQ((*tokenizer)->vocab_size(), 5);
}

TEST(TokenizerLoadTest, WhatIsNotJsonIsRefusedWithItsPlace) {
  EXPECT_EQ(MessageFor(""), R"(tokenizer.json: expected JSON, found an error at byte 1 near "")");
  EXPECT_EQ(MessageFor("[1, 2,, 3]"),
            R"(tokenizer.json: expected JSON, found an error at byte 7 near "2,,")");
  EXPECT_EQ(MessageFor("[]"), "tokenizer.json: the document (an array) is not an object");
  EXPECT_EQ(MessageFor("{\"a\xff\": 1}"),
            "tokenizer.json: expected JSON, found an error at byte 4 near \"\\\"a\\xff\"");
}

// Which of the two a reader takes is anybody's guess.
TEST(TokenizerLoadTest, ATokenTwiceIsRefused) {
  std::string file = RightFile().dump();
  file.replace(file.find(R"("b":1)"), 5, R"("a":1)");
  EXPECT_EQ(MessageFor(file), R"(tokenizer.json: expected JSON, found name "a" twice)");
}

TEST(TokenizerLoadTest, EveryTruncationIsRefused) {
  const std::string right = RightFile().dump();
  for (size_t size = 0; size < right.size(); ++size) {
    EXPECT_FALSE(Tokenizer::Parse(right.substr(0, size), "tokenizer.json").ok()) << size;
  }
}

// No value of the wrong type, wherever it stands, gets past or breaks anything.
TEST(TokenizerLoadTest, WrongTypesNeverCrash) {
  const Json right = RightFile().flatten();
  const Json values[] = {nullptr,
                         true,
                         0,
                         -1,
                         1e300,
                         "",
                         "\u2581x",
                         Json::array(),
                         Json::object(),
                         Json::array({1}),
                         {{"type", "Sequence"}}};
  for (const auto& item : right.items()) {
    for (Json::json_pointer at(item.key()); !at.empty(); at.pop_back()) {
      for (const Json& value : values) {
        Json file = RightFile();
        file[at] = value;
        const auto tokenizer = Tokenizer::Parse(file.dump(), "tokenizer.json");
        if (tokenizer.ok()) (*tokenizer)->Decode((*tokenizer)->Encode("abb <s> \u2581"), false);
        EXPECT_EQ(std::string(tokenizer.status().message()).find('\n'), std::string::npos);
      }
    }
  }
}

TEST(TokenizerLoadTest, FilesAreReadFromDisk) {
  const std::string data = MEA_SOURCE_DIR "/tests/engine/text/data/";
  EXPECT_TRUE(Tokenizer::Load(data + "gpt2.json").ok());
  EXPECT_EQ(Tokenizer::Load(data + "none.json").status().message(),
            data +
                "none.json: cannot open: No such file or directory; no other kind of tokenizer "
                "is read, tokenizer.model neither");
  EXPECT_EQ(Tokenizer::Load(data).status().message(), data + ": expected a regular file");
}

}  // namespace
}  // namespace mea
