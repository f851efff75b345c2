#include "engine/convert/calibration.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/tokenizer.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

constexpr int kWindow = 1024;
// A text of fewer tokens says nothing about a model.
constexpr int64_t kMinTokens = 64;

}  // namespace

int CalibrationWindow(const ModelConfig& config) {
  return std::min(kWindow, config.max_position - 1);
}

absl::StatusOr<CalibrationText> ReadCalibrationText(const std::string& file,
                                                    const Checkpoint& checkpoint,
                                                    const TextShares& shares) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(file, ": cannot be read"));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  MEA_ASSIGN_OR_RETURN(const auto tokenizer,
                       Tokenizer::Load((checkpoint.dir / "tokenizer.json").string()));
  MEA_ASSIGN_OR_RETURN(Documents documents,
                       SplitDocuments(*tokenizer, text, checkpoint.generation.eos_token_ids,
                                      CalibrationWindow(checkpoint.config)));
  const int64_t total = NumTokens(documents);
  if (total < kMinTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", total, " tokens, at least ", kMinTokens, " are needed"));
  }
  if (const absl::Status status = CheckTokens(documents, checkpoint.config.vocab_size);
      !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", status.message()));
  }
  CalibrationText out;
  if (documents.size() < 4) {
    out.learn = out.measure = documents;
    out.held_out = std::move(documents);
    out.is_apart = false;
    return out;
  }
  // Of every four documents one measures and one judges, until there are enough.
  const std::array most = {shares.learn, std::min(shares.measure, total / 4),
                           std::min(shares.held_out, total / 4)};
  const std::array parts = {&out.learn, &out.measure, &out.held_out};
  std::array<int64_t, 3> tokens = {};
  for (size_t i = 0; i < documents.size(); ++i) {
    int part = i % 4 == 1 ? 1 : i % 4 == 3 ? 2 : 0;
    if (part > 0 && tokens[part] >= most[part]) part = 0;
    if (tokens[part] >= most[part]) continue;
    tokens[part] += std::ssize(documents[i]);
    parts[part]->push_back(std::move(documents[i]));
  }
  return out;
}

}  // namespace mea::convert
