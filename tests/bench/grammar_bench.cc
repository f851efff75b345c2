// Time of grammars over a real vocabulary: what compiling takes, and a mask for each token of
// random walks through the language, in CPU time of one core.
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
  return {{"any JSON object", {.kind = Kind::kJsonObject}},
          {"record of five fields", {.kind = Kind::kJsonSchema, .text = record}},
          {"recursive tree", {.kind = Kind::kJsonSchema, .text = tree}},
          {"e-mail address",
           {.kind = Kind::kJsonSchema, .text = R"({"type": "string", "format": "email"})"}},
          {"regex [a-zA-Z ]+", {.kind = Kind::kRegex, .text = "[a-zA-Z ]+"}},
          {"regex .*", {.kind = Kind::kRegex, .text = ".*"}},
          {"text with a tool call", {.kind = Kind::kStructuralTag, .text = tool}}};
}

// One of the allowed tokens, at random; -1 where the text has to end.
int32_t Pick(std::span<const uint32_t> mask, int vocab_size, std::mt19937& random) {
  std::vector<int32_t> allowed;
  for (int32_t id = 0; id < vocab_size; ++id) {
    if ((mask[id / kMaskBits] >> (id % kMaskBits) & 1) != 0) allowed.push_back(id);
  }
  return allowed.empty() ? -1 : allowed[random() % allowed.size()];
}

void Measure(GrammarCompiler& compiler, const Case& example, int vocab_size) {
  double start = CpuMs();
  const auto grammar = compiler.Compile(example.spec);
  const double compile_ms = CpuMs() - start;
  if (!grammar.ok()) {
    std::printf("%-24s %s\n", example.name, std::string(grammar.status().message()).c_str());
    return;
  }
  Times masks;
  Times accepts;
  std::vector<uint32_t> mask(MaskWords(vocab_size));
  for (int seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    const auto matcher = (*grammar)->NewMatcher({});
    for (int i = 0; i < 200; ++i) {
      start = CpuMs();
      if (!matcher->FillMask(mask).ok()) break;
      masks.Add(CpuMs() - start);
      const int32_t token = Pick(mask, vocab_size, random);
      if (token < 0) break;
      start = CpuMs();
      matcher->Accept(token);
      accepts.Add(CpuMs() - start);
    }
  }
  std::printf("%-24s %8.1f ms %7.2f MB %8.1f us %8.1f us %8.1f us %6d\n", example.name, compile_ms,
              static_cast<double>((*grammar)->memory_bytes()) / 1e6,
              1e3 * masks.sum_ms / masks.count, 1e3 * masks.worst_ms,
              1e3 * accepts.sum_ms / std::max(accepts.count, 1), masks.count);
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
  std::printf("%-24s %11s %10s %11s %11s %11s %6s\n", "", "compile", "memory", "mask", "worst",
              "accept", "tokens");
  for (const Case& example : Cases()) Measure(**compiler, example, vocab_size);
  return 0;
}

}  // namespace
}  // namespace mea

int main(int argc, char** argv) { return mea::Main(argc, argv); }
