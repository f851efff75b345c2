#include "server/bench/prompts.h"

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// One token each in most vocabularies, with the space before it.
constexpr std::array<const char*, 32> kWords = {
    "the", "of",   "and", "to",  "in",   "is",   "that", "for",   "it",   "was",  "on",
    "are", "with", "as",  "his", "they", "be",   "at",   "one",   "have", "this", "from",
    "or",  "had",  "by",  "hot", "but",  "some", "what", "there", "we",   "can"};

enum Purpose : uint64_t { kRequest, kPrefix, kNumPurposes };

// Numbers of one purpose; std's distributions are left out since their results are not fixed.
class Dice {
 public:
  Dice(const PromptOptions& options, uint64_t purpose, int64_t number) {
    const uint64_t seed = options.seed;
    const uint64_t stream = purpose + kNumPurposes * static_cast<uint64_t>(options.round);
    std::seed_seq sequence{seed, seed >> 32, stream, static_cast<uint64_t>(number),
                           static_cast<uint64_t>(number) >> 32};
    random_.seed(sequence);
  }
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }
  int In(LengthRange range) { return range.low + Below(range.high - range.low + 1); }
  bool WithProbability(double p) { return std::ldexp(double(random_() >> 11), -53) < p; }

 private:
  std::mt19937_64 random_;
};

void AppendRandom(int num_tokens, int vocab_size, Dice& dice, BenchRequest& to) {
  for (int i = 0; i < num_tokens; ++i) {
    if (vocab_size > 0) {
      to.token_ids.push_back(dice.Below(vocab_size));
    } else {
      absl::StrAppend(&to.text, to.text.empty() ? "" : " ",
                      kWords[dice.Below(static_cast<int>(kWords.size()))]);
    }
  }
}

// The request of one line; INVALID_ARGUMENT explains what is wrong.
absl::StatusOr<BenchRequest> ParseLine(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("is no JSON object");
  const auto prompt = json.find("prompt");
  BenchRequest request;
  if (prompt != json.end() && prompt->is_string()) {
    request.text = prompt->get<std::string>();
  } else if (prompt != json.end() && prompt->is_array()) {
    for (const auto& id : *prompt) {
      if (!id.is_number_integer()) {
        return absl::InvalidArgumentError(absl::StrCat("has token id ", id.dump()));
      }
      request.token_ids.push_back(id.get<int32_t>());
    }
  }
  if (request.text.empty() && request.token_ids.empty()) {
    return absl::InvalidArgumentError("has no \"prompt\" of text or token ids");
  }
  if (const auto max_tokens = json.find("max_tokens"); max_tokens != json.end()) {
    if (!max_tokens->is_number_integer() || max_tokens->get<int64_t>() < 1) {
      return absl::InvalidArgumentError(absl::StrCat("has max_tokens ", max_tokens->dump()));
    }
    request.max_tokens = max_tokens->get<int>();
  }
  return request;
}

}  // namespace

absl::StatusOr<LengthRange> ParseLengthRange(const std::string& flag, const std::string& text) {
  const std::vector<std::string> ends = absl::StrSplit(text, ':');
  LengthRange range;
  if (ends.size() <= 2 && absl::SimpleAtoi(ends.front(), &range.low) &&
      absl::SimpleAtoi(ends.back(), &range.high) && range.low >= 1 && range.high >= range.low) {
    return range;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " '", text, "' is neither N nor LOW:HIGH with 1 <= LOW <= HIGH"));
}

absl::StatusOr<Prompts> Prompts::Create(PromptOptions options) {
  Prompts prompts(std::move(options));
  MEA_RETURN_IF_ERROR(prompts.ReadFile());
  return prompts;
}

absl::Status Prompts::ReadFile() {
  if (options_.file.empty()) return absl::OkStatus();
  std::ifstream file(options_.file);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", options_.file));
  int line_number = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    if (line.empty()) continue;
    absl::StatusOr<BenchRequest> request = ParseLine(line);
    if (!request.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(options_.file, " line ", line_number, " ",
                                                     std::string(request.status().message())));
    }
    from_file_.push_back(*std::move(request));
  }
  if (from_file_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(options_.file, " holds no prompt"));
  }
  return absl::OkStatus();
}

BenchRequest Prompts::Make(int64_t number) const {
  Dice dice(options_, kRequest, number);
  BenchRequest request;
  if (!from_file_.empty()) {
    request = from_file_[static_cast<size_t>(number) % from_file_.size()];
  } else {
    if (options_.prefix_tokens > 0) {
      Dice prefix(options_, kPrefix, dice.Below(options_.num_prefixes));
      AppendRandom(options_.prefix_tokens, options_.vocab_size, prefix, request);
    }
    AppendRandom(dice.In(options_.input), options_.vocab_size, dice, request);
  }
  if (request.max_tokens == 0) request.max_tokens = dice.In(options_.output);
  if (dice.WithProbability(options_.cancel_rate) && request.max_tokens > 1) {
    request.cancel_after = 1 + dice.Below(request.max_tokens - 1);
  }
  return request;
}

}  // namespace mea
