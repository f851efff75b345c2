#include "tests/engine/grammar/structured_requests.h"

#include <array>
#include <nlohmann/json.hpp>
#include <regex>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace mea::testing {
namespace {

constexpr char kPersonSchema[] = R"({
  "type": "object",
  "properties": {
    "id": {"type": "integer", "minimum": 1, "maximum": 999},
    "kind": {"enum": ["cat", "dog"]},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    "ok": {"type": "boolean"}
  },
  "required": ["id", "kind", "tags"]
})";

const std::vector<std::string>& Vocabulary() {
  static const std::vector<std::string> vocabulary = [] {
    std::vector<std::string> tokens = {""};
    for (char c = ' '; c <= '~'; ++c) tokens.emplace_back(1, c);
    for (const char* piece : {"{\"", "\": ", "\", \"", "\"}", "\"]", "[\"", ": \"", "true", "false",
                              "null", "id", "kind", "tags", "cat", "dog", "12", "34", "ab", "\n"}) {
      tokens.emplace_back(piece);
    }
    return tokens;
  }();
  return vocabulary;
}

const std::array<GrammarSpec, 4>& Specs() {
  using Kind = GrammarSpec::Kind;
  static const std::array<GrammarSpec, 4> specs = {
      GrammarSpec{.kind = Kind::kJsonSchema, .text = kPersonSchema},
      GrammarSpec{.kind = Kind::kChoice, .choices = {"yes", "no", "cat and dog"}},
      GrammarSpec{.kind = Kind::kRegex, .text = "[a-d]{2,9}-\\d{3}"},
      GrammarSpec{.kind = Kind::kEbnf, .text = "root ::= [0-9] | \"(\" root [+*] root \")\"\n"}};
  return specs;
}

bool IsPerson(const nlohmann::json& json) {
  if (!json.is_object()) return false;
  for (const auto& [key, value] : json.items()) {
    const bool fits = key == "id"     ? value.is_number_integer() && value >= 1 && value <= 999
                      : key == "kind" ? value == "cat" || value == "dog"
                      : key == "tags"
                          ? value.is_array() && value.size() <= 2 &&
                                std::all_of(value.begin(), value.end(),
                                            [](const auto& tag) {
                                              return tag.is_string() &&
                                                     tag.template get<std::string>().size() <= 4;
                                            })
                          : key == "ok" && value.is_boolean();
    if (!fits) return false;
  }
  return json.contains("id") && json.contains("kind") && json.contains("tags");
}

}  // namespace

std::shared_ptr<const Grammar> CompileStructured(const GrammarSpec& spec) {
  static GrammarCompiler& compiler =
      *GrammarCompiler::OfVocabulary(Vocabulary(), kStructuredModel.vocab_size, {})
           .value()
           .release();
  auto grammar = compiler.Compile(spec);
  MEA_CHECK(grammar.ok());
  return *std::move(grammar);
}

std::string StructuredText(const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens) text += Vocabulary()[token];
  return text;
}

std::vector<Request> StructuredRequests(int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request = RandomRequest(300 + i, 1 + (i * 11) % 30, 40, kStructuredModel.vocab_size);
    request.id = absl::StrCat("structured-", i);
    request.grammar = CompileStructured(Specs()[i % Specs().size()]);
    request.sampling = {.temperature = i % 5 == 0 ? 0.0f : 1.0f,
                        .top_k = i % 3 == 0 ? 10 : 0,
                        .top_p = i % 2 == 0 ? 0.9f : 1.0f,
                        .repetition_penalty = i % 4 == 3 ? 1.2f : 1.0f,
                        .seed = static_cast<uint64_t>(i)};
    request.logprobs = 0;
    request.stopping.min_tokens = i % 6 == 5 ? 4 : 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

bool IsAsAsked(int i, const std::string& text) {
  static const std::regex regex("[a-d]{2,9}-[0-9]{3}");
  static const std::regex sum("[0-9()+*]+");
  switch (i % Specs().size()) {
    case 0:
      return IsPerson(nlohmann::json::parse(text, nullptr, false));
    case 1:
      return text == "yes" || text == "no" || text == "cat and dog";
    case 2:
      return std::regex_match(text, regex);
    default:
      return std::regex_match(text, sum) &&
             std::count(text.begin(), text.end(), '(') == std::count(text.begin(), text.end(), ')');
  }
}

}  // namespace mea::testing
