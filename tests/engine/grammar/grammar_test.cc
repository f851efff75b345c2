#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/engine/grammar/byte_grammar.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Kind = GrammarSpec::Kind;

std::shared_ptr<const Grammar> CompileOrDie(GrammarSpec spec) {
  static GrammarCompiler& compiler = *MakeByteCompiler().release();
  auto grammar = compiler.Compile(spec);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  return *grammar;
}

absl::Status StatusOf(GrammarSpec spec) {
  static GrammarCompiler& compiler = *MakeByteCompiler().release();
  return compiler.Compile(spec).status();
}

TEST(GrammarTest, AnyJsonObjectIsAnObjectAndNothingElse) {
  const auto grammar = CompileOrDie({.kind = Kind::kJsonObject});
  EXPECT_TRUE(Matches(*grammar, R"({"a": [1, 2.5e3, null, true, "x\n"], "b": {}})"));
  EXPECT_TRUE(Matches(*grammar, "{\n  \"a\":\t1\n}"));
  EXPECT_FALSE(Matches(*grammar, "[1]"));
  EXPECT_FALSE(Matches(*grammar, R"({"a": 1)"));
}

TEST(GrammarTest, BlanksInARowAreBounded) {
  const auto grammar = CompileOrDie({.kind = Kind::kJsonObject});
  EXPECT_TRUE(Matches(*grammar, absl::StrCat("{\"a\":", std::string(24, ' '), "1}")));
  EXPECT_FALSE(Matches(*grammar, absl::StrCat("{\"a\":", std::string(25, ' '), "1}")));
}

TEST(GrammarTest, ARegexMatchesTheWholeText) {
  const auto grammar = CompileOrDie({.kind = Kind::kRegex, .text = "^[a-zé]+\\d{2}$"});
  EXPECT_TRUE(Matches(*grammar, "abé12"));
  EXPECT_FALSE(Matches(*grammar, "ab1"));
  EXPECT_FALSE(Matches(*grammar, "ab123"));
}

TEST(GrammarTest, ADotIsNoLineEnd) {
  const auto grammar = CompileOrDie({.kind = Kind::kRegex, .text = "a.+[.]\\."});
  EXPECT_TRUE(Matches(*grammar, "ab é.."));
  EXPECT_FALSE(Matches(*grammar, "a\n.."));
  EXPECT_FALSE(Matches(*grammar, "ab.b"));
  const auto tag = CompileOrDie(
      {.kind = Kind::kStructuralTag, .text = R"({"format": {"type": "regex", "pattern": "a.c"}})"});
  EXPECT_TRUE(Matches(*tag, "abc"));
  EXPECT_FALSE(Matches(*tag, "a\nc"));
}

// The library itself takes "ayc" for the first.
TEST(GrammarTest, AnOptionalGroupIsThereAsAWholeOrNotAtAll) {
  for (const std::string regex : {"a(xy+)?c", "a(?:xy{1,3})?c", "a((x)y+)?c", "a(z|xy*)?c"}) {
    const auto grammar = CompileOrDie({.kind = Kind::kRegex, .text = regex});
    EXPECT_TRUE(Matches(*grammar, "ac")) << regex;
    EXPECT_TRUE(Matches(*grammar, "axyyc")) << regex;
    EXPECT_FALSE(Matches(*grammar, "ayc")) << regex;
    EXPECT_FALSE(Matches(*grammar, "ayyc")) << regex;
  }
  const auto time =
      CompileOrDie({.kind = Kind::kJsonSchema, .text = R"({"type": "string", "format": "time"})"});
  EXPECT_TRUE(Matches(*time, R"("12:00:00.125Z")"));
  EXPECT_TRUE(Matches(*time, R"("12:00:00+01:30")"));
  EXPECT_FALSE(Matches(*time, R"("12:00:00125Z")"));
}

TEST(GrammarTest, AChoiceIsOneOfItsTexts) {
  const auto grammar =
      CompileOrDie({.kind = Kind::kChoice, .choices = {"yes", "no", "a \"b\" \\ \n\té"}});
  EXPECT_TRUE(Matches(*grammar, "yes"));
  EXPECT_TRUE(Matches(*grammar, "a \"b\" \\ \n\té"));
  EXPECT_FALSE(Matches(*grammar, "ye"));
  EXPECT_FALSE(Matches(*grammar, "yesno"));
}

TEST(GrammarTest, AnEscapeIsHalfOfACharacterOnlyIfItIsAnEscape) {
  EXPECT_TRUE(Matches(*CompileOrDie({.kind = Kind::kRegex, .text = "\\\\ud83d"}), "\\ud83d"));
  EXPECT_TRUE(Matches(*CompileOrDie({.kind = Kind::kRegex, .text = "\\ud7ff"}), "\ud7ff"));
}

// The library reads "\x0a42" as one code point.
TEST(GrammarTest, AControlCharacterEndsBeforeTheDigitsBehindIt) {
  for (const std::string text : {"\n42", "\nb", "\tc\re",
                                 "\x7f"
                                 "a",
                                 "\x01"
                                 "ffff"}) {
    const auto grammar = CompileOrDie({.kind = Kind::kChoice, .choices = {text}});
    EXPECT_TRUE(Matches(*grammar, text)) << text;
  }
  EXPECT_TRUE(Matches(*CompileOrDie({.kind = Kind::kRegex,
                                     .text = "\x7f"
                                             "a+"}),
                      "\x7f"
                      "aa"));
}

TEST(GrammarTest, EbnfMayBeRecursive) {
  const auto grammar =
      CompileOrDie({.kind = Kind::kEbnf, .text = "root ::= \"(\" root \")\" | [0-9]+\n"});
  EXPECT_TRUE(Matches(*grammar, "((42))"));
  EXPECT_FALSE(Matches(*grammar, "((42)"));
}

TEST(GrammarTest, AStructuralTagMixesFreeTextAndSchemas) {
  const auto grammar =
      CompileOrDie({.kind = Kind::kStructuralTag,
                    .text = R"({"format": {"type": "triggered_tags", "triggers": ["<f"], "tags": [
           {"begin": "<f=a>", "end": "</f>", "content": {"type": "json_schema", "json_schema":
             {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}]}})"});
  EXPECT_TRUE(Matches(*grammar, "free text"));
  EXPECT_TRUE(Matches(*grammar, "so: <f=a>{\"x\": 1}</f> and on"));
  EXPECT_FALSE(Matches(*grammar, "so: <f=b>"));
  EXPECT_FALSE(Matches(*grammar, "so: <f=a>{\"x\": true}</f>"));
}

TEST(GrammarTest, BlanksBetweenTheParametersOfACallAreBounded) {
  for (const std::string style : {"json", "qwen_xml", "glm_xml"}) {
    const auto grammar = CompileOrDie(
        {.kind = Kind::kStructuralTag,
         .text = absl::StrCat(R"({"format": {"type": "json_schema", "style": ")", style,
                              R"(", "max_whitespace_cnt": 1000000, "json_schema":
                              {"type": "object", "properties": {"n": {"type": "integer"},
                               "s": {"type": "string"}}, "required": ["n", "s"]}}})")});
    const std::string blanks(24, '\n');
    const auto call = [&](const std::string& between) {
      if (style == "json") return absl::StrCat("{\"n\": 1,", between, "\"s\": \"a b\"}");
      if (style == "qwen_xml") {
        return absl::StrCat("<parameter=n>1</parameter>", between, "<parameter=s>a b</parameter>");
      }
      return absl::StrCat("<arg_key>n</arg_key><arg_value>1</arg_value>", between,
                          "<arg_key>s</arg_key><arg_value>a b</arg_value>");
    };
    EXPECT_TRUE(Matches(*grammar, call(blanks))) << style;
    EXPECT_FALSE(Matches(*grammar, call(blanks + blanks + "\n"))) << style;
  }
}

TEST(GrammarTest, RefusesWhatIsBrokenOrTooLarge) {
  const std::string letters(5000, 'a');
  EXPECT_THAT(std::string(StatusOf({.kind = Kind::kRegex, .text = "("}).message()),
              HasSubstr("parenthesis"));
  // The library's words stand behind ours.
  EXPECT_THAT(std::string(StatusOf({.kind = Kind::kRegex, .text = "(a)\\1"}).message()),
              StartsWith("the regular expression cannot be compiled: "));
  EXPECT_THAT(std::string(StatusOf({.kind = Kind::kEbnf, .text = "root ::= missing"}).message()),
              StartsWith("the grammar cannot be compiled: "));
  for (const GrammarSpec& spec : {
           GrammarSpec{.kind = Kind::kRegex, .text = "((a{1000}){1000}){1000}"},
           GrammarSpec{.kind = Kind::kRegex, .text = "a{1,100000}"},
           GrammarSpec{.kind = Kind::kRegex, .text = letters + letters},
           GrammarSpec{.kind = Kind::kRegex,
           .text = absl::StrCat(std::string(70, '('), std::string(70, ')'))},
           GrammarSpec{.kind = Kind::kRegex, .text = "\xff"},
           GrammarSpec{.kind = Kind::kRegex, .text = "(a)\\1"},
           GrammarSpec{.kind = Kind::kRegex, .text = "[a"},
           GrammarSpec{.kind = Kind::kRegex, .text = "\\ud83d\\ude00"},
           GrammarSpec{.kind = Kind::kRegex, .text = "[\\uDC00a]"},
           GrammarSpec{.kind = Kind::kEbnf, .text = "root ::= \"\\ud83d\""},
           GrammarSpec{.kind = Kind::kRegex, .text = "\\"},
           GrammarSpec{.kind = Kind::kChoice},
           GrammarSpec{.kind = Kind::kChoice, .choices = {"a", ""}},
           GrammarSpec{.kind = Kind::kChoice, .choices = {std::string(1, '\0')}},
           GrammarSpec{.kind = Kind::kChoice, .choices = std::vector<std::string>(5000, "a")},
           GrammarSpec{.kind = Kind::kChoice, .choices = {std::string(65 << 10, 'a')}},
           GrammarSpec{.kind = Kind::kEbnf, .text = "root ::= missing"},
           GrammarSpec{.kind = Kind::kEbnf, .text = "start ::= \"a\""},
           GrammarSpec{.kind = Kind::kEbnf, .text = "root ::= root \"a\""},
           GrammarSpec{.kind = Kind::kEbnf, .text = "root ::= Regex(\"(a|b){1,9999}\")"},
           GrammarSpec{.kind = Kind::kEbnf, .text = std::string(65 << 10, '#')},
           GrammarSpec{.kind = Kind::kStructuralTag, .text = "12"},
           GrammarSpec{.kind = Kind::kStructuralTag, .text = R"({"format":{"type":"wat"}})"},
           GrammarSpec{.kind = Kind::kStructuralTag,
           .text = R"({"format":{"type":"json_schema","json_schema":{"not":{}}}})"},
       }) {
    const absl::Status status = StatusOf(spec);
    SCOPED_TRACE(spec.text.substr(0, 80));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(std::string(status.message()).find('\n'), std::string::npos);
    EXPECT_LT(status.message().size(), 500u);
  }
}

TEST(GrammarMatcherTest, AllowsNoTokenWithoutText) {
  const auto grammar = CompileOrDie({.kind = Kind::kRegex, .text = ".*"});
  const std::array<int32_t, 1> stops = {kByteEnd};
  const auto matcher = grammar->NewMatcher(stops);
  std::vector<uint32_t> mask(MaskWords(kByteVocab));
  ASSERT_TRUE(matcher->FillMask(mask).ok());
  EXPECT_TRUE(Allows(mask, 'a'));
  EXPECT_TRUE(Allows(mask, kByteEnd));  // a stop token
  for (int32_t id = kByteEnd + 1; id < MaskWords(kByteVocab) * kMaskBits; ++id) {
    EXPECT_FALSE(Allows(mask, id)) << id;
  }
  EXPECT_FALSE(matcher->Accept(kByteEnd + 1));
  EXPECT_TRUE(matcher->Accept('a'));  // what was refused changed nothing
  EXPECT_FALSE(grammar->NewMatcher({})->Accept(kByteEnd));
}

TEST(GrammarMatcherTest, IsFinishedWhenOnlyAStopTokenMayFollow) {
  const auto grammar = CompileOrDie({.kind = Kind::kRegex, .text = "ab?"});
  for (const std::vector<int32_t>& stops : {std::vector<int32_t>{}, {kByteEnd}}) {
    const auto matcher = grammar->NewMatcher(stops);
    EXPECT_FALSE(matcher->is_finished());
    EXPECT_TRUE(matcher->Accept('a'));
    EXPECT_FALSE(matcher->is_finished());
    EXPECT_TRUE(matcher->Accept('b'));
    EXPECT_TRUE(matcher->is_finished());
  }
}

TEST(GrammarMatcherTest, AnAmbiguousGrammarEndsItsSequenceAndNothingElse) {
  const auto grammar = CompileOrDie(
      {.kind = Kind::kEbnf, .text = "root ::= a a a a a a a a\na ::= [a-z]* | a a | \"x\" a\n"});
  const auto matcher = grammar->NewMatcher({});
  std::vector<uint32_t> mask(MaskWords(kByteVocab));
  absl::Status status;
  for (int i = 0; i < 60 && status.ok(); ++i) {
    status = matcher->FillMask(mask);
    if (status.ok() && !matcher->Accept('x')) break;
  }
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
}

TEST(GrammarMatcherTest, ManyAmbiguousSequencesEndEachForItself) {
  const auto grammar =
      CompileOrDie({.kind = Kind::kEbnf, .text = "root ::= (([a-z]{1,300} \" \"?){1,300}) \"z\""});
  const auto plain = CompileOrDie({.kind = Kind::kRegex, .text = "a+"});
  const auto neighbour = plain->NewMatcher({});
  std::vector<std::unique_ptr<GrammarMatcher>> matchers(8);
  for (auto& matcher : matchers) matcher = grammar->NewMatcher({});
  std::vector<uint32_t> mask(MaskWords(kByteVocab));
  for (auto& matcher : matchers) {
    absl::Status status;
    for (int i = 0; i < 2000 && status.ok(); ++i) {
      status = matcher->FillMask(mask);
      if (status.ok() && !matcher->Accept('a')) status = matcher->FillMask(mask);
    }
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(matcher->FillMask(mask), status);
    EXPECT_FALSE(matcher->Accept('a'));
    EXPECT_TRUE(neighbour->FillMask(mask).ok());
    EXPECT_TRUE(neighbour->Accept('a'));
  }
}

TEST(GrammarCompilerTest, EqualSpecsAreCompiledOnce) {
  const auto compiler = MakeByteCompiler();
  const GrammarSpec spec{.kind = Kind::kRegex, .text = "[a-z]{1,60}"};
  std::vector<std::shared_ptr<const Grammar>> grammars(8);
  {
    std::vector<std::jthread> threads;
    for (auto& grammar : grammars) {
      threads.emplace_back([&] { grammar = compiler->Compile(spec).value(); });
    }
  }
  for (const auto& grammar : grammars) EXPECT_EQ(grammar, grammars[0]);
  EXPECT_EQ(compiler->stats().compiled, 1);
  EXPECT_EQ(compiler->stats().found, 7);
  // Other words for the same are another grammar.
  EXPECT_NE(compiler->Compile({.kind = Kind::kRegex, .text = "[a-z]{1,59}"}).value(), grammars[0]);
  EXPECT_NE(compiler->Compile({.kind = Kind::kChoice, .choices = {"a", "b"}}).value(),
            compiler->Compile({.kind = Kind::kChoice, .choices = {"a", "bb"}}).value());
}

TEST(GrammarCompilerTest, KeepsWhatWasUsedLastWithinItsBytes) {
  const auto spec = [](int i) {
    return GrammarSpec{.kind = Kind::kRegex, .text = absl::StrCat("[a-z]{", i, "}")};
  };
  const int64_t bytes = MakeByteCompiler()->Compile(spec(50)).value()->memory_bytes();
  const auto compiler = MakeByteCompiler({.cache_bytes = 3 * bytes + bytes / 2});
  const auto held = compiler->Compile(spec(48)).value();
  for (const int i : {49, 50, 48, 51}) ASSERT_TRUE(compiler->Compile(spec(i)).ok());
  EXPECT_LE(compiler->stats().cached_bytes, 3 * bytes + bytes / 2);
  const int64_t compiled = compiler->stats().compiled;
  EXPECT_EQ(compiler->Compile(spec(48)).value(), held);  // used after 49 was
  EXPECT_EQ(compiler->stats().compiled, compiled);
  ASSERT_TRUE(compiler->Compile(spec(49)).ok());  // dropped, and compiled anew
  EXPECT_EQ(compiler->stats().compiled, compiled + 1);
}

TEST(GrammarCompilerTest, AGrammarOutlivesTheCompiler) {
  auto compiler = MakeByteCompiler();
  const auto grammar = compiler->Compile({.kind = Kind::kRegex, .text = "a+"}).value();
  compiler.reset();
  EXPECT_TRUE(Matches(*grammar, "aaa"));
}

}  // namespace
}  // namespace mea::testing
