#include "engine/eval/reader.h"

#include <algorithm>
#include <utility>

#include "engine/model/model_weights.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kMaxNumSeqs = 64;
constexpr int kPageSize = 32;

}  // namespace

std::vector<TextBatch> BatchesOf(std::span<const Document> documents) {
  std::vector<TextBatch> batches;
  for (size_t first = 0; first < documents.size();) {
    int64_t tokens = 0;
    size_t end = first;
    while (end < documents.size() && end - first < kMaxNumSeqs &&
           tokens + std::ssize(documents[end]) <= Reader::kBatchTokens) {
      tokens += std::ssize(documents[end++]);
    }
    MEA_CHECK(end > first);
    batches.push_back(documents.subspan(first, end - first));
    first = end;
  }
  return batches;
}

PredictingRows PredictingRowsOf(TextBatch batch) {
  PredictingRows predicting;
  int32_t row = 0;
  for (const Document& document : batch) {
    for (size_t i = 1; i < document.size(); ++i) {
      predicting.rows.push_back(row++);
      predicting.targets.push_back(document[i]);
    }
    ++row;  // the last one
  }
  return predicting;
}

absl::StatusOr<std::unique_ptr<Reader>> Reader::Create(const Checkpoint& checkpoint,
                                                       const ReaderOptions& options) {
  std::unique_ptr<Reader> reader(new Reader());
  MEA_ASSIGN_OR_RETURN(reader->backend_, CreateCpuBackend({.num_threads = options.num_threads}));
  MEA_ASSIGN_OR_RETURN(ModelWeights weights, LoadWeights(checkpoint, {.prefault = false}));
  MEA_ASSIGN_OR_RETURN(reader->model_,
                       Model::Create(checkpoint.config, std::move(weights), reader->backend_.get(),
                                     {.max_batch_tokens = kBatchTokens,
                                      .max_num_seqs = kMaxNumSeqs,
                                      .max_logit_rows = kMaxLogitRows,
                                      .page_size = kPageSize,
                                      .kv_dtype = options.kv_dtype}));
  const KvLayout layout = reader->model_->MakeKvLayout(options.kv_dtype, kPageSize);
  // Each sequence may leave most of a page unused.
  const auto pages = std::max(layout.PagesFor(kBatchTokens) + kMaxNumSeqs * layout.PagesFor(1),
                              layout.PagesFor(std::max(options.longest, 1)));
  MEA_ASSIGN_OR_RETURN(reader->kv_,
                       KvCache::Create(*reader->backend_, layout, static_cast<int>(pages)));
  return reader;
}

// The sequences' pages go back at once: nobody else takes any.
void Reader::Build(TextBatch batch) {
  std::vector<std::unique_ptr<Sequence>> sequences;
  Schedule schedule;
  for (const Document& document : batch) {
    sequences.push_back(
        std::make_unique<Sequence>(Request{.prompt = document}, nullptr, kv_->NewPageTable(), 0));
    const auto num_tokens = static_cast<int>(document.size());
    MEA_CHECK(kv_->Reserve(sequences.back()->pages, 0, num_tokens));
    schedule.push_back({.sequence = sequences.back().get(), .begin = 0, .num_tokens = num_tokens});
  }
  batch_.Build(schedule, kPageSize);
}

void Reader::Begin(TextBatch batch) {
  Build(batch);
  model_->Begin(batch_);
}

void Reader::Forward(TextBatch batch) {
  Build(batch);
  model_->Forward(batch_, *kv_);
}

void Reader::ForwardTail(const Document& document, int tail) {
  const auto num_tokens = static_cast<int>(document.size());
  MEA_CHECK(0 < tail && tail <= std::min(num_tokens, kBatchTokens));
  Sequence sequence(Request{.prompt = document}, nullptr, kv_->NewPageTable(), 0);
  for (int begin = 0; begin < num_tokens;) {
    const int end =
        begin < num_tokens - tail ? std::min(begin + kBatchTokens, num_tokens - tail) : num_tokens;
    MEA_CHECK(kv_->Reserve(sequence.pages, begin, end));
    batch_.Build({{.sequence = &sequence, .begin = begin, .num_tokens = end - begin}}, kPageSize);
    model_->Forward(batch_, *kv_);
    begin = end;
  }
}

absl::StatusOr<double> Reader::Loss(std::span<const Document> documents,
                                    const TokensRead& progress) {
  double nats = 0;
  int64_t num_predicted = 0;
  int64_t read = 0;
  for (const TextBatch batch : BatchesOf(documents)) {
    Forward(batch);
    const PredictingRows predicting = PredictingRowsOf(batch);
    std::vector<float> logprobs(predicting.rows.size());
    for (size_t first = 0; first < logprobs.size(); first += kMaxLogitRows) {
      const size_t count = std::min<size_t>(kMaxLogitRows, logprobs.size() - first);
      const TensorView logits = Logits(std::span(predicting.rows).subspan(first, count));
      backend_->TokenLogprobs({.logits = logits,
                               .targets = std::span(predicting.targets).subspan(first, count),
                               .logprobs = std::span(logprobs).subspan(first, count)});
    }
    for (const float logprob : logprobs) nats -= logprob;
    num_predicted += std::ssize(logprobs);
    read += NumTokens(batch);
    if (!progress) continue;
    MEA_RETURN_IF_ERROR(progress(read, NumTokens(documents)));
  }
  if (num_predicted == 0) return absl::InvalidArgumentError("the text has no token to predict");
  return nats / static_cast<double>(num_predicted);
}

}  // namespace mea
