#include <gtest/gtest.h>

#include "tests/engine/text/jinja/render.h"

namespace mea::jinja {
namespace {

constexpr std::string_view kVariables =
    R"({"u": "User", "w": "  a, b ", "l": ["x", "y"], "d": {"k": "v\n"}, "n": 5, "e": ""})";

std::string Marked(std::string_view source) { return Bracketed(source, kVariables); }

TEST(MarksTest, InputsAreMarkedAndTheTemplateIsNot) {
  EXPECT_EQ(Marked("a{{ u }}b{{ 'c' }}{{ u }}"), "a[User]bc[User]");
  EXPECT_EQ(Marked("{{ u }}{{ u }}"), "[UserUser]");
  EXPECT_EQ(Marked("{{ n }}{{ e }}{{ none }}"), "5None");
}

TEST(MarksTest, SurviveJoiningOfStrings) {
  EXPECT_EQ(Marked("{{ '<' + u + '>' }}"), "<[User]>");
  EXPECT_EQ(Marked("{{ '<' ~ u ~ n }}"), "<[User]5");
  EXPECT_EQ(Marked("{{ l | join(', ') }}"), "[x], [y]");
  EXPECT_EQ(Marked("{{ u.join(['a', 'b']) }}"), "a[User]b");
  EXPECT_EQ(Marked("{{ ('-' ~ u) * 2 }}"), "-[User]-[User]");
  EXPECT_EQ(Marked("{{ '%s|%5s' % (u, 'a') }}"), "[User]|    a");
  EXPECT_EQ(Marked("{{ '{}-{:>6}'.format(1, u) }}"), "1-  [User]");
}

TEST(MarksTest, SurviveCuttingOfStrings) {
  EXPECT_EQ(Marked("{{ ('ab' ~ u)[1:4] }}"), "b[Us]");
  EXPECT_EQ(Marked("{{ (u ~ 'ab')[::-1] }}"), "ba[resU]");
  EXPECT_EQ(Marked("{{ ('ab' ~ u)[0] }}{{ u[0] }}"), "a[U]");
  EXPECT_EQ(Marked("{{ ('x' ~ w ~ 'y').strip('xy') }}"), "[  a, b ]");
  EXPECT_EQ(Marked("<{{ w | trim }}>"), "<[a, b]>");
  EXPECT_EQ(Marked("{{ ('k,' ~ w).split(',') | join('|') }}"), "k|[  a]|[ b ]");
  EXPECT_EQ(Marked("{% for c in 'a' ~ u %}{{ c }}.{% endfor %}"), "a.[U].[s].[e].[r].");
}

TEST(MarksTest, SurviveReplacingAndCase) {
  EXPECT_EQ(Marked("{{ u | upper }}{{ u.lower() }}"), "[USERuser]");
  EXPECT_EQ(Marked("{{ ('ab ' ~ u) | title }}"), "Ab [User]");
  EXPECT_EQ(Marked("{{ u.replace('s', 'S') }}"), "[U]S[er]");
  EXPECT_EQ(Marked("{{ 'a-b'.replace('-', u) }}"), "a[User]b");
  EXPECT_EQ(Marked("{{ ('a\nb' ~ u) | indent(2) }}"), "a\n  b[User]");
  EXPECT_EQ(Marked("{{ ('<' ~ u) | e }}"), "&lt;[User]");
}

TEST(MarksTest, SurviveJsonAndRepr) {
  EXPECT_EQ(Marked("{{ u | tojson }}"), "\"[User]\"");
  EXPECT_EQ(Marked("{{ {'a': d} | tojson }}"), "{\"a\": {\"[k]\": \"[v\\n]\"}}");
  EXPECT_EQ(Marked("{{ [u, 'a'] }}"), "['[User]', 'a']");
  EXPECT_EQ(Marked("{{ d }}"), "{'[k]': '[v\\n]'}");
}

TEST(MarksTest, SurviveBlocksAndMacros) {
  EXPECT_EQ(Marked("{% set a %}<{{ u }}>{% endset %}{{ a }}"), "<[User]>");
  EXPECT_EQ(Marked("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(u) }}{{ f('a') }}"), "<[User]><a>");
  EXPECT_EQ(Marked("{% filter upper %}a{{ u }}{% endfilter %}"), "A[USER]");
}

TEST(MarksTest, AStringOfTheTemplateThatEqualsAnInputIsNotOne) {
  EXPECT_EQ(Marked("{% if u == 'User' %}{{ 'User' }}{% endif %}"), "User");
}

}  // namespace
}  // namespace mea::jinja
