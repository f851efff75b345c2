#include "tests/golden/offline_model.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <string>

#include "engine/checkpoint/checkpoint.h"
#include "engine/engine_core.h"
#include "engine/load.h"

namespace mea::golden {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (!value.ok()) std::cerr << value.status() << "\n";
  MEA_CHECK(value.ok());
  return *std::move(value);
}

// The first row, once the back end has computed it.
std::vector<double> FirstRow(Backend& backend, const TensorView& logits) {
  const std::array<int64_t, 2> shape = {1, logits.shape[1]};
  const Tensor host = ValueOrDie(backend.AllocateHost(shape, logits.dtype));
  backend.Download(logits.Rows(0, 1), host.view());
  MEA_CHECK(backend.Synchronize().ok());
  if (logits.dtype == DType::kF64) {
    const auto values = host.view().values<double>();
    return {values.begin(), values.end()};
  }
  const auto values = host.view().values<float>();
  return {values.begin(), values.end()};
}

class CollectingSink final : public TokenSink {
 public:
  void OnToken(TokenEvent event) override { tokens_.push_back(event.token_id); }
  void OnFinish(FinishEvent event) override { MEA_CHECK(event.status.ok()); }
  const std::vector<int32_t>& tokens() const { return tokens_; }

 private:
  std::vector<int32_t> tokens_;
};

}  // namespace

OfflineModel::OfflineModel(const std::filesystem::path& dir, Backend& backend,
                           const OfflineOptions& options)
    : options_(options) {
  const Checkpoint checkpoint = ValueOrDie(OpenCheckpoint(dir));
  model_ =
      ValueOrDie(LoadModel(checkpoint, "auto", &backend,
                           {.max_batch_tokens = options.chunk, .page_size = options.page_size}));
  KvLayout layout = model_->MakeKvLayout(options.kv_dtype, options.page_size);
  const auto num_pages = static_cast<int>(layout.PagesFor(options.max_tokens));
  kv_ = ValueOrDie(KvCache::Create(backend, std::move(layout), num_pages));
}

std::vector<std::vector<double>> OfflineModel::Logits(std::span<const int32_t> tokens,
                                                      std::span<const int> positions) {
  Sequence sequence({.prompt = {tokens.begin(), tokens.end()}}, nullptr, kv_->NewPageTable(), 0);
  const int num_tokens = sequence.num_tokens();

  std::vector<std::vector<double>> logits(positions.size());
  Batch batch;
  for (int first = 0; first < num_tokens; first += options_.chunk) {
    const int count = std::min(options_.chunk, num_tokens - first);
    MEA_CHECK(kv_->Reserve(sequence.pages, first, num_tokens));
    batch.Build({{.sequence = &sequence, .begin = first, .num_tokens = count}}, options_.page_size);
    model_->Forward(batch, *kv_);
    for (size_t i = 0; i < positions.size(); ++i) {
      const int32_t row = positions[i] - first;
      if (row < 0 || row >= count) continue;
      logits[i] = FirstRow(model_->backend(), model_->Logits({&row, 1}));
    }
    // The next chunk takes the place of this one's inputs.
    MEA_CHECK(model_->backend().Synchronize().ok());
  }
  return logits;
}

std::vector<std::vector<int32_t>> OfflineModel::Greedy(
    std::span<const std::vector<int32_t>> prompts, int num_tokens) {
  const int num_seqs = std::min(static_cast<int>(prompts.size()), options_.chunk);
  EngineCore core(model_.get(), kv_.get(), num_seqs, model_->config().eos_token_ids);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const std::vector<int32_t>& prompt : prompts) {
    sinks.push_back(std::make_shared<CollectingSink>());
    core.Add({.id = std::to_string(sinks.size()),
              .prompt = prompt,
              .sampling = {.temperature = 0},
              .stopping = {.max_tokens = num_tokens, .ignore_eos = true}},
             sinks.back());
  }
  while (core.has_work()) {
    core.RunStep(absl::InfinitePast());
    core.Deliver();
  }
  std::vector<std::vector<int32_t>> tokens;
  for (const auto& sink : sinks) tokens.push_back(sink->tokens());
  return tokens;
}

}  // namespace mea::golden
