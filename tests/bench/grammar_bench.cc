// Time of grammars over a real vocabulary: what compiling takes, and a mask for each token, along a
// text that a model might write and along random walks through the language. In CPU time of one
// core.
//
//   grammar_bench TOKENIZER_JSON
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>

#include "engine/grammar/grammar_compiler.h"
#include "engine/text/tokenizer.h"

namespace mea {
namespace {

double CpuMs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

struct Times {
  double sum_ms = 0;
  double worst_ms = 0;
  int count = 0;
  void Add(double ms) {
    sum_ms += ms;
    worst_ms = std::max(worst_ms, ms);
    ++count;
  }
};

struct Case {
  const char* name;
  const char* text;  // of the language
  GrammarSpec spec;
};

std::vector<Case> Cases() {
  using Kind = GrammarSpec::Kind;
  const char* const record = R"({"type": "object", "properties": {
      "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
      "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
      "kind": {"enum": ["a", "b", "c"]}, "score": {"type": "number", "minimum": 0, "maximum": 1}},
      "required": ["name", "age", "tags", "kind", "score"]})";
  const char* const tree =
      R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {
      "v": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
      "required": ["v", "children"]}}})";
  const char* const tool = R"({"format": {"type": "triggered_tags", "triggers": ["<call"], "tags": [
      {"begin": "<call=f>", "end": "</call>", "content": {"type": "json_schema", "json_schema":
      {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}]}})";
  const char* const record_text = R"({
  "name": "Ada Lovelace, Countess of Lovelace",
  "age": 36,
  "tags": ["mathematics", "first program", "London"],
  "kind": "b",
  "score": 0.975
})";
  const char* const tree_text =
      R"({"v": 1, "children": [{"v": -20, "children": []}, {"v": 300, "children": [{"v": 4, "children": []}]}]})";
  return {{"any JSON object", record_text, {.kind = Kind::kJsonObject}},
          {"record of five fields", record_text, {.kind = Kind::kJsonSchema, .text = record}},
          {"recursive tree", tree_text, {.kind = Kind::kJsonSchema, .text = tree}},
          {"e-mail address",
           "\"ada.lovelace@example.org\"",
           {.kind = Kind::kJsonSchema, .text = R"({"type": "string", "format": "email"})"}},
          {"regex [a-zA-Z ]+",
           "The quick brown fox jumps over the lazy dog",
           {.kind = Kind::kRegex, .text = "[a-zA-Z ]+"}},
          {"regex .*",
           "The quick brown fox jumps over the lazy dog.",
           {.kind = Kind::kRegex, .text = ".*"}},
          {"text with a tool call",
           "Let me see: <call=f>{\"x\": 12}</call> It is twelve.",
           {.kind = Kind::kStructuralTag, .text = tool}}};
}

// One of the allowed tokens, at random; -1 where the text has to end.
int32_t Pick(std::span<const uint32_t> mask, int vocab_size, std::mt19937& random) {
  std::vector<int32_t> allowed;
  for (int32_t id = 0; id < vocab_size; ++id) {
    if ((mask[id / kMaskBits] >> (id % kMaskBits) & 1) != 0) allowed.push_back(id);
  }
  return allowed.empty() ? -1 : allowed[random() % allowed.size()];
}

// Masks and steps along the tokens that `next` gives, at most `count` of them.
template <typename Next>
void Walk(const Grammar& grammar, int vocab_size, int count, Next next, Times& masks,
          Times& accepts) {
  std::vector<uint32_t> mask(MaskWords(vocab_size));
  const auto matcher = grammar.NewMatcher({});
  for (int i = 0; i < count; ++i) {
    double start = CpuMs();
    if (!matcher->FillMask(mask).ok()) return;
    masks.Add(CpuMs() - start);
    const int32_t token = next(mask, i);
    if (token < 0) return;
    start = CpuMs();
    if (!matcher->Accept(token)) {
      std::printf("the text leaves its language at token %d\n", i);
      return;
    }
    accepts.Add(CpuMs() - start);
  }
}

void Measure(GrammarCompiler& compiler, const Tokenizer& tokenizer, const Case& example) {
  const int vocab_size = tokenizer.vocab_size();
  const double start = CpuMs();
  const auto grammar = compiler.Compile(example.spec);
  const double compile_ms = CpuMs() - start;
  if (!grammar.ok()) {
    std::printf("%-22s %s\n", example.name, std::string(grammar.status().message()).c_str());
    return;
  }
  Times text, accepts, random_walk, ignored;
  const auto ids = tokenizer.Encode(example.text, {.add_special_tokens = false});
  for (int repeat = 0; repeat < 20; ++repeat) {
    Walk(
        **grammar, vocab_size, static_cast<int>(ids.size()),
        [&](std::span<const uint32_t>, int i) { return ids[i]; }, text, accepts);
  }
  for (int seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    Walk(
        **grammar, vocab_size, 200,
        [&](std::span<const uint32_t> mask, int) { return Pick(mask, vocab_size, random); },
        random_walk, ignored);
  }
  std::printf("%-22s %8.1f %8.2f %10.1f %8.1f %8.1f %10.1f %8.1f\n", example.name, compile_ms,
              static_cast<double>((*grammar)->memory_bytes()) / 1e6, 1e3 * text.sum_ms / text.count,
              1e3 * text.worst_ms, 1e3 * accepts.sum_ms / accepts.count,
              1e3 * random_walk.sum_ms / random_walk.count, 1e3 * random_walk.worst_ms);
}

int Main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "grammar_bench TOKENIZER_JSON\n");
    return 1;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  const int vocab_size = (*tokenizer)->vocab_size();
  const double start = CpuMs();
  const auto compiler = GrammarCompiler::Create(**tokenizer, vocab_size);
  if (!compiler.ok()) return 1;
  std::printf("vocabulary of %d tokens, read in %.0f ms\n", vocab_size, CpuMs() - start);
  std::printf("%-22s %8s %8s %10s %8s %8s %10s %8s\n", "", "compile", "memory", "mask/text",
              "worst", "accept", "mask/walk", "worst");
  std::printf("%-22s %8s %8s %10s %8s %8s %10s %8s\n", "", "ms", "MB", "us", "us", "us", "us",
              "us");
  for (const Case& example : Cases()) Measure(**compiler, **tokenizer, example);
  return 0;
}

}  // namespace
}  // namespace mea

int main(int argc, char** argv) { return mea::Main(argc, argv); }
