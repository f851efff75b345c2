#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/eval/scores.h"
#include "engine/model/model.h"
#include "kvcache/kv_cache.h"

namespace mea {

// Reports the progress of a reading; an error ends it.
using TokensRead = std::function<absl::Status(int64_t tokens_done, int64_t tokens_total)>;

// Whole documents that one pass reads, side by side. None has more tokens than a pass.
using TextBatch = std::span<const Document>;
std::vector<TextBatch> BatchesOf(std::span<const Document> documents);

// A row of a pass whose document has a next token.
struct PredictingRows {
  std::vector<int32_t> rows;
  std::vector<int32_t> targets;
};
PredictingRows PredictingRowsOf(TextBatch batch);

struct ReaderOptions {
  int num_threads = 0;  // 0 = UsableCpus()
  KvDTypes kv_dtype = DType::kF32;
  int longest = 0;  // document for ForwardTail, in tokens
};

// A checkpoint that reads texts on the CPU: a model and a small cache. Weights stay mapped. One
// thread drives it.
class Reader {
 public:
  static constexpr int kBatchTokens = 1024;  // of a pass, at most
  static constexpr int kMaxLogitRows = 64;

  static absl::StatusOr<std::unique_ptr<Reader>> Create(const Checkpoint& checkpoint,
                                                        const ReaderOptions& options);

  // Readies model and cache for a pass in pieces (Model::Begin), or runs all of it.
  void Begin(TextBatch batch);
  void Forward(TextBatch batch);
  // The same for a document of up to options.longest tokens, in several passes: the last one is of
  // its last `tail` tokens alone, at most kBatchTokens, which are the rows of Logits.
  void ForwardTail(const Document& document, int tail);
  TensorView token_ids() const { return batch_.token_ids(); }
  Model& model() { return *model_; }
  const Model& model() const { return *model_; }
  const KvCache& kv() const { return *kv_; }
  // Of rows of the last batch: [rows.size(), vocab], overwritten by the next call.
  TensorView Logits(std::span<const int32_t> rows) { return model_->Logits(rows); }

  // Nats per token.
  absl::StatusOr<double> Loss(std::span<const Document> documents, const TokensRead& progress = {});

 private:
  Reader() = default;
  void Build(TextBatch batch);
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> kv_;
  Batch batch_;
};

}  // namespace mea
