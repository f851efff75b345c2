#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/problems.h"
#include "engine/engine_core.h"
#include "engine/eval.h"

namespace mea::convert {

// Reports the progress of a reading; an error ends it.
using TokensRead = std::function<absl::Status(int64_t tokens_done, int64_t tokens_total)>;

int64_t NumTokens(std::span<const std::vector<int32_t>> documents);

// A text as token ids. The documents to learn from and those to measure on are different if there
// are enough; those to measure on are spread over the whole text.
struct CalibrationText {
  Documents learn;
  Documents measure;
};

// NOT_FOUND or INVALID_ARGUMENT, naming the file, if it cannot be read or is too short.
absl::StatusOr<CalibrationText> ReadCalibrationText(const std::string& file,
                                                    const Checkpoint& checkpoint,
                                                    int64_t learn_tokens, int64_t measure_tokens);

// A checkpoint that reads texts on the CPU: a model, a small cache and an engine core. Weights stay
// mapped, except for replaceable copies of the K and V projections. One thread drives it.
class Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Create(const Checkpoint& checkpoint,
                                                        int num_threads, bool replaceable);

  // Nats per token.
  absl::StatusOr<double> Loss(std::span<const std::vector<int32_t>> documents,
                              const TokensRead& progress = {});
  // Statistics of these layers over the text.
  absl::StatusOr<LayerStatistics> Collect(std::span<const std::vector<int32_t>> documents,
                                          std::span<const int> layers,
                                          const TokensRead& progress = {});

  // Replaces a layer's heads, rounded as the checkpoint stores them, until Restore. Only for a
  // plain checkpoint opened `replaceable`; absent (empty) biases stay as they are.
  void ReplaceKeys(int layer, const Matrix& k, const Matrix& bias);
  void ReplaceValues(int layer, const Matrix& v, const Matrix& bias);
  void Restore(int layer);

 private:
  explicit Reader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  absl::Status MakeReplaceable(ModelWeights& weights);

  // Replace writes to this memory, which the model reads.
  struct Replaceable {
    TensorView weight;  // its own copy
    TensorView bias;    // absent, or the model's own
    TensorView original_weight;
    std::vector<float> original_bias;
    void Write(const Matrix& matrix, const Matrix& new_bias) const;
    void Restore() const;
  };

  const Checkpoint& checkpoint_;
  std::vector<Replaceable> keys_, values_;  // [num_layers]
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<EngineCore> core_;
};

}  // namespace mea::convert
