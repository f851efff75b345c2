#include "engine/eval/needles.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr std::array<const char*, kNeedles> kNames = {
    "Alice",  "Bernard", "Carla", "Dmitri",  "Esther", "Felix",  "Greta", "Hector",
    "Ingrid", "Joseph",  "Karen", "Leonard", "Monica", "Nathan", "Olga",  "Patrick"};

struct Fact {
  Document statement;  // up to the number
  Document number;
};

Fact MakeFact(const Tokenizer& tokenizer, int index, std::mt19937_64& random) {
  const EncodeOptions plain{.add_special_tokens = false};
  return {tokenizer.Encode(absl::StrCat("\nThe secret number of ", kNames[index], " is"), plain),
          tokenizer.Encode(absl::StrCat(" ", 10000 + random() % 90000), plain)};
}

void Append(const Document& tokens, Document& to) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

Haystack MakeHaystack(const Tokenizer& tokenizer, std::span<const int32_t> filler, int length,
                      uint64_t seed) {
  std::mt19937_64 random(seed);  // the same numbers on every machine
  const Document full_stop = tokenizer.Encode(".", {.add_special_tokens = false});
  const Document new_line = tokenizer.Encode("\n", {.add_special_tokens = false});
  std::vector<Fact> facts;
  Haystack haystack;
  for (int i = 0; i < kNeedles; ++i) {
    facts.push_back(MakeFact(tokenizer, i, random));
    haystack.tail +=
        static_cast<int>(facts[i].statement.size() + facts[i].number.size() + full_stop.size());
  }
  Document& tokens = haystack.tokens;
  tokens = tokenizer.Encode("");
  const int hidden = haystack.tail + kNeedles * static_cast<int>(new_line.size());
  const int hay = length - static_cast<int>(tokens.size()) - hidden - haystack.tail;
  if (hay < kNeedles || filler.empty() || haystack.tail > Reader::kBatchTokens) return {};

  size_t next = 0;
  for (int i = 0; i < kNeedles; ++i) {
    // A fact stands somewhere within its share of the hay.
    const int begin = hay * i / kNeedles;
    const int end = hay * (i + 1) / kNeedles;
    const int at = begin + static_cast<int>(random() % (end - begin));
    for (int k = begin; k < end; ++k) {
      if (k == at) {
        Append(facts[i].statement, tokens);
        Append(facts[i].number, tokens);
        Append(full_stop, tokens);
        Append(new_line, tokens);
      }
      tokens.push_back(filler[next++ % filler.size()]);
    }
  }
  std::array<int, kNeedles> order;
  std::iota(order.begin(), order.end(), 0);
  for (int i = kNeedles - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  for (const int i : order) {
    Append(facts[i].statement, tokens);
    haystack.answers.push_back(
        {static_cast<int>(tokens.size()), static_cast<int>(facts[i].number.size())});
    Append(facts[i].number, tokens);
    Append(full_stop, tokens);
  }
  return haystack;
}

void ScoreHaystack(Reader& reader, const Haystack& haystack, NeedleScore& score) {
  const std::span<const int32_t> tokens = haystack.tokens;
  const auto tail_begin = static_cast<int>(tokens.size()) - haystack.tail;
  reader.ForwardTail(haystack.tokens, haystack.tail);
  for (const Haystack::Answer& answer : haystack.answers) {
    std::vector<int32_t> rows(answer.count);
    std::iota(rows.begin(), rows.end(), answer.first - 1 - tail_begin);
    const auto number = tokens.subspan(answer.first, answer.count);
    const TensorView logits = reader.Logits(rows);
    std::vector<float> logprobs(answer.count);
    reader.model().backend().TokenLogprobs(
        {.logits = logits, .targets = number, .logprobs = logprobs});
    bool is_right = true;
    for (int i = 0; i < answer.count; ++i) {
      const float* row = logits.row<float>(i);
      is_right = is_right && std::max_element(row, row + logits.shape[1]) - row == number[i];
    }
    score.right += is_right ? 1 : 0;
    for (const float logprob : logprobs) score.nats -= logprob;
  }
  score.answers += static_cast<int>(haystack.answers.size());
}

}  // namespace mea
