#include "engine/grammar/prepare.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/json_schema.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/regex_check.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"

namespace mea::grammar {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kTagField[] = "structural_tag";

absl::Status RefuseTag(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(kTagField, " ", what));
}

absl::StatusOr<PreparedGrammar> PrepareChoice(const std::vector<std::string>& choices) {
  if (choices.empty() || choices.size() > kMaxChoices) {
    return absl::InvalidArgumentError(
        absl::StrCat("choice of ", choices.size(), " texts is outside 1..", kMaxChoices));
  }
  PreparedGrammar prepared{.kind = PreparedGrammar::Kind::kEbnf, .text = "root ::= "};
  size_t num_bytes = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].empty())
      return absl::InvalidArgumentError(absl::StrCat("choice ", i, " is empty"));
    if (!IsValidUtf8(choices[i]) || choices[i].find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("choice ", i, " is not valid UTF-8 without NUL characters"));
    }
    num_bytes += choices[i].size();
    if (num_bytes > kMaxChoiceBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("choice exceeds ", kMaxChoiceBytes, " bytes in all"));
    }
    absl::StrAppend(&prepared.text, i == 0 ? "" : " | ", EbnfQuoted(choices[i]));
  }
  return prepared;
}

// Nested formats; a schema, regex or grammar inside is checked like one that stands alone.
class TagPreparer {
 public:
  explicit TagPreparer(Patterns& patterns) : patterns_(patterns) {}

  absl::Status Prepare(OrderedJson& value) {
    if (++num_values_ > kMaxSchemaNodes) {
      return RefuseTag(absl::StrCat("has more than ", kMaxSchemaNodes, " values"));
    }
    if (value.is_number() && (value < 0 || value > kMaxCount)) {
      return RefuseTag(
          absl::StrCat("has a number ", value.dump().substr(0, 24), " outside 0..", kMaxCount));
    }
    if (value.is_object()) {
      MEA_RETURN_IF_ERROR(PrepareFormat(value));
    }
    if (!value.is_object() && !value.is_array()) return absl::OkStatus();
    for (auto& [key, member] : value.items()) {
      if (value.is_object() && (key == "json_schema" || key == "schema")) continue;
      MEA_RETURN_IF_ERROR(Prepare(member));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status PrepareFormat(OrderedJson& format) {
    if (format.contains("schema")) return RefuseTag("\"schema\" is not supported; use a format");
    if (format.contains("json_schema")) {
      MEA_RETURN_IF_ERROR(PrepareSchema(format["json_schema"], patterns_));
      format["max_whitespace_cnt"] = kMaxWhitespace;
    }
    const OrderedJson type = format.value("type", OrderedJson());
    if (type == "regex" && format.contains("pattern") && format["pattern"].is_string()) {
      MEA_ASSIGN_OR_RETURN(const std::string regex,
                           PrepareRegex(absl::StrCat(kTagField, " pattern"),
                                        format["pattern"].get<std::string>(), patterns_.budget));
      format["pattern"] = DotsWithinLines(regex);
    }
    if (type == "grammar") {
      if (format.value("syntax", OrderedJson("ebnf")) != "ebnf") {
        return RefuseTag("has a grammar whose syntax is not ebnf");
      }
      if (!format.contains("grammar") || !format["grammar"].is_string()) {
        return RefuseTag("has a grammar without its text");
      }
      return CheckEbnf(absl::StrCat(kTagField, " grammar"), format["grammar"].get<std::string>());
    }
    return absl::OkStatus();
  }

  Patterns& patterns_;
  int num_values_ = 0;
};

absl::StatusOr<PreparedGrammar> PrepareStructuralTag(const std::string& text) {
  MEA_ASSIGN_OR_RETURN(OrderedJson tag, ParseJson(kTagField, text));
  PreparedGrammar prepared{.kind = PreparedGrammar::Kind::kStructuralTag};
  Patterns patterns;
  MEA_RETURN_IF_ERROR(TagPreparer(patterns).Prepare(tag));
  prepared.patterns = std::move(patterns.regexes);
  prepared.text = tag.dump();
  return prepared;
}

}  // namespace

std::string EbnfQuoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      constexpr char kHex[] = "0123456789abcdef";
      // Four digits: after \x the library reads on for as long as digits come.
      absl::StrAppend(&out, "\\u00", std::string{kHex[byte >> 4], kHex[byte & 15]});
    } else {
      out += c;
    }
  }
  return out + "\"";
}

absl::StatusOr<PreparedGrammar> Prepare(const GrammarSpec& spec) {
  using Kind = PreparedGrammar::Kind;
  switch (spec.kind) {
    case GrammarSpec::Kind::kJsonObject:
      return PreparedGrammar{.kind = Kind::kJsonSchema,
                             .text = R"({"type":"object","additionalProperties":true})"};
    case GrammarSpec::Kind::kJsonSchema: {
      MEA_ASSIGN_OR_RETURN(PreparedSchema schema, PrepareSchema(spec.text));
      return PreparedGrammar{.kind = Kind::kJsonSchema,
                             .text = std::move(schema.text),
                             .patterns = std::move(schema.patterns.regexes)};
    }
    case GrammarSpec::Kind::kRegex: {
      int64_t budget = kMaxRegexStates;
      MEA_ASSIGN_OR_RETURN(std::string regex, PrepareRegex("regex", spec.text, budget));
      return PreparedGrammar{.kind = Kind::kRegex, .text = DotsWithinLines(regex)};
    }
    case GrammarSpec::Kind::kChoice:
      return PrepareChoice(spec.choices);
    case GrammarSpec::Kind::kEbnf:
      MEA_RETURN_IF_ERROR(CheckEbnf("grammar", spec.text));
      return PreparedGrammar{.kind = Kind::kEbnf, .text = spec.text};
    case GrammarSpec::Kind::kStructuralTag:
      return PrepareStructuralTag(spec.text);
  }
  return absl::InvalidArgumentError("unknown kind of grammar");
}

}  // namespace mea::grammar
