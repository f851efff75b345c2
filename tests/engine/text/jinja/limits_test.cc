// What a hostile template or request may try: each ends in one error, none takes long or much.
#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/text/jinja/limits.h"
#include "tests/engine/text/jinja/render.h"

namespace mea::jinja {
namespace {

using testing::HasSubstr;

std::string Repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

std::string ErrorOf(std::string_view source, std::string_view variables = "{}") {
  const absl::StatusOr<MarkedText> made = RenderWith(source, variables);
  if (made.ok()) return "renders " + made->text.substr(0, 100);
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(made.status().message().find('\n'), absl::string_view::npos);
  return std::string(made.status().message());
}

TEST(JinjaLimitsTest, DeepNestingIsRefused) {
  constexpr int kDeep = 100000;
  EXPECT_THAT(ErrorOf("{{ " + Repeated("(", kDeep) + "1" + Repeated(")", kDeep) + " }}"),
              HasSubstr("line 1: the template is nested more than 200 deep"));
  EXPECT_THAT(ErrorOf("{{ " + Repeated("[", kDeep) + Repeated("]", kDeep) + " }}"),
              HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ " + Repeated("not ", kDeep) + "1 }}"), HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ " + Repeated("-", kDeep) + "1 }}"), HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ 1" + Repeated(" + 1", kDeep) + " }}"), HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ x" + Repeated(".x", kDeep) + " }}"), HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ x" + Repeated(" | trim", kDeep) + " }}"),
              HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{{ 1" + Repeated(" if 1 else 1", kDeep / 2) + " }}"),
              HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf(Repeated("{% if 1 %}", kDeep)), HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{% set " + Repeated("(", kDeep) + "a" + Repeated(")", kDeep) + " = 1 %}"),
              HasSubstr("nested more than 200"));
}

TEST(JinjaLimitsTest, NestingWithinTheBoundRenders) {
  EXPECT_EQ(Bracketed("{{ " + Repeated("(", 100) + "1" + Repeated(")", 100) + " }}", "{}"), "1");
  EXPECT_EQ(Bracketed("{{ 'a'" + Repeated(" ~ 'a'", 1000) + " }}", "{}").size(), 1001u);
  const int k = kMaxParseDepth - 20;
  EXPECT_EQ(Bracketed(Repeated("{% if 1 %}", k) + "x" + Repeated("{% endif %}", k), "{}"), "x");
}

TEST(JinjaLimitsTest, LongLoopsEnd) {
  EXPECT_THAT(
      ErrorOf("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
      HasSubstr("more than 2000000 steps"));
  EXPECT_THAT(ErrorOf("{{ range(100001) }}"), HasSubstr("more than 100000"));
  EXPECT_THAT(ErrorOf("{{ range(-9223372036854775807, 9223372036854775807) }}"),
              HasSubstr("more than 100000"));
  EXPECT_THAT(
      ErrorOf("{{ range(9)[::-9223372036854775807] }}{{ range(9)[::9223372036854775807] }}"),
      HasSubstr("renders range(8, 9)range(0, 1)"));
}

TEST(JinjaLimitsTest, StringsDoNotGrowWithoutEnd) {
  EXPECT_THAT(ErrorOf("{% set n = namespace(s='x') %}{% for i in range(99) %}"
                      "{% set n.s = n.s + n.s %}{% endfor %}"),
              HasSubstr("a string exceeds 8388608 bytes"));
  EXPECT_THAT(ErrorOf("{{ 'x' * 99999999 }}"), HasSubstr("exceeds 8388608"));
  EXPECT_THAT(ErrorOf("{{ [1] * 9223372036854775807 }}"), HasSubstr("exceeds 8388608"));
  EXPECT_THAT(ErrorOf("{{ ('x' * 9999).replace('x', 'y' * 9999) }}"), HasSubstr("8388608"));
  EXPECT_THAT(ErrorOf("{{ (['y' * 9999] * 9999) | join }}"), HasSubstr("8388608"));
  EXPECT_THAT(ErrorOf("{{ 'x'.center(999999999) }}"), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf("{{ '%9999999999d' % 1 }}"), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"),
              HasSubstr("exceeds 8388608 bytes"));
}

TEST(JinjaLimitsTest, MemoryIsBounded) {
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[], s='x' * 1000000) %}{% for i in range(99) %}"
                      "{% set n.l = n.l + [n.s ~ i] %}{% endfor %}"),
              HasSubstr("values take more than 67108864 bytes"));
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[1]) %}{% for i in range(99) %}"
                      "{% set n.l = n.l + n.l %}{% endfor %}"),
              HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("{% set s = 'x' * 1000000 %}{% for i in range(99999) %}"
                      "{{ (s ~ i) | length }}{% endfor %}"),
              HasSubstr("more than 2000000 steps"));
}

TEST(JinjaLimitsTest, ValuesAreNotNestedWithoutEnd) {
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
                      "{% set n.l = [n.l] %}{% endfor %}"),
              HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
                      "{% for j in [n.l] %}{% set n.l = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("nested more than 200"));
  EXPECT_THAT(ErrorOf("{% set n = namespace() %}{% set n.n = n %}{{ n }}"), HasSubstr("line 1"));
  // Sixty-four lists that print as 2^64 ones.
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[]) %}{% for i in range(64) %}"
                      "{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l == n.l }}"),
              HasSubstr("steps"));
  EXPECT_THAT(ErrorOf("{% set n = namespace(l=[]) %}{% for i in range(64) %}"
                      "{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l | tojson }}"),
              HasSubstr("steps"));
}

TEST(JinjaLimitsTest, EndlessRecursionEnds) {
  EXPECT_THAT(ErrorOf("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("deep"));
  EXPECT_THAT(ErrorOf("{% macro f(x) %}{{ x(x) }}{% endmacro %}{{ f(f) }}"), HasSubstr("deep"));
  EXPECT_THAT(ErrorOf("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
              HasSubstr("deep"));
  EXPECT_THAT(ErrorOf("{% macro f() %}{{ caller() }}{% endmacro %}"
                      "{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}"),
              HasSubstr("deep"));
  EXPECT_EQ(Bracketed("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% else %}x{% endif %}{% endmacro %}"
                      "{{ f(100) }}",
                      "{}"),
            "x");
}

TEST(JinjaLimitsTest, WhatIsNotClosedIsNamedWithItsLine) {
  for (const char* source : {"\n{{ x",
                             "\n{% if x",
                             "\n{# x",
                             "\n{{ 'x }}",
                             "\n{% raw %}",
                             "\n{% if x %}",
                             "\n{% for",
                             "\n{{ (x }}",
                             "\n{{ [x }}",
                             "\n{{ {x }}",
                             "\n{% set x %}",
                             "\n{% macro f() %}",
                             "\n{{ 'a\\x1' }}",
                             "\n{{ '\\",
                             "\n{% call f() %}",
                             "\n{{ x[1: }}",
                             "\n{{ x | }}",
                             "\n{{ x is }}",
                             "\n{%",
                             "\n{{",
                             "\n{{-",
                             "\n{% -",
                             "\n{{ x. }}",
                             "\n{{ 1 if }}"}) {
    EXPECT_THAT(ErrorOf(source), HasSubstr("line 2")) << source;
  }
  EXPECT_THAT(ErrorOf(std::string(kMaxSourceBytes + 1, 'x')), HasSubstr("at most 1048576"));
  EXPECT_THAT(ErrorOf("\xff"), HasSubstr("UTF-8"));
}

TEST(JinjaLimitsTest, SearchingIsLinear) {
  // Quadratic searching of these would take hours.
  const std::string variables =
      "{\"a\": \"" + std::string(400000, 'a') + "\", \"b\": \"" + std::string(200000, 'a') + "b\"}";
  EXPECT_EQ(Bracketed("{{ a.find(b) }}{{ a.rfind('b' ~ b[:-1]) }}{{ b in a }}{{ a.count(b) }}"
                      "{{ a.split(b) | length }}{{ a.rsplit('b' ~ b) | length }}"
                      "{{ a.strip(b) | length }}{{ a.replace(b, '') | length }}",
                      variables),
            "-1-1False0110400000");
}

TEST(JinjaLimitsTest, NumbersDoNotOverflow) {
  for (const char* expression :
       {"9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 64",
        "(-9223372036854775807 - 1) // -1", "10.0 ** 400", "0 ** -1", "1e300 | int",
        "(-9223372036854775807 - 1) | abs", "9223372036854775808"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("{{ ", expression, " }}")), HasSubstr("line 1")) << expression;
  }
  EXPECT_EQ(Bracketed("{{ (-9223372036854775807 - 1) % -1 }}", "{}"), "0");
}

TEST(JinjaLimitsTest, AnInterruptionEndsARendering) {
  int asked = 0;
  const auto made = RenderWith("{% for i in range(99999) %}{% endfor %}", "{}", [&] {
    return ++asked < 3 ? absl::OkStatus() : absl::DeadlineExceededError("too late");
  });
  EXPECT_EQ(made.status(), absl::DeadlineExceededError("too late"));
  EXPECT_EQ(asked, 3);
}

TEST(JinjaLimitsTest, DeepRequestsAreRefused) {
  const std::string deep = Repeated("[", 5000) + Repeated("]", 5000);
  EXPECT_THAT(ErrorOf("", "{\"x\": " + deep + "}"), HasSubstr("nested more than 100 deep"));
}

}  // namespace
}  // namespace mea::jinja
