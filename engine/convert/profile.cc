#include "engine/convert/profile.h"

#include <algorithm>
#include <array>

#include "engine/weights/in_parallel.h"
#include "kernels/status_macros.h"

namespace mea::convert {

absl::StatusOr<std::unique_ptr<Profiler>> Profiler::Create(const Checkpoint& plain,
                                                           const ProfileTexts& texts,
                                                           int num_threads, int64_t logit_bytes) {
  std::unique_ptr<Profiler> profiler(new Profiler(plain, num_threads));
  MEA_ASSIGN_OR_RETURN(profiler->walk_, LayerWalk::Create(plain, texts.measure, num_threads));
  if (!texts.heal.empty()) {
    MEA_ASSIGN_OR_RETURN(profiler->healer_, Healer::Create(plain, texts.heal, num_threads));
  }
  const ModelConfig& config = plain.config;
  MEA_ASSIGN_OR_RETURN(profiler->front_, profiler->walk_->NewStream(config.hidden_size));
  MEA_ASSIGN_OR_RETURN(profiler->trial_, profiler->walk_->NewStream(config.hidden_size));
  profiler->ChooseRows(logit_bytes);
  int64_t compared = 0;
  for (const PredictingRows& rows : profiler->compared_) compared += std::ssize(rows.rows);
  MEA_ASSIGN_OR_RETURN(
      profiler->logits_,
      Tensor::AllocateHost(std::array{compared, int64_t{config.vocab_size}}, DType::kF32));
  profiler->walk_->Embed(profiler->front_);
  profiler->walk_->Embed(profiler->trial_);
  profiler->Finish(profiler->trial_, 0, [&](int64_t first, TensorView logits, auto) {
    for (int64_t i = 0; i < logits.shape[0]; ++i) {
      std::copy_n(logits.row<float>(i), config.vocab_size,
                  profiler->logits_.view().row<float>(first + i));
    }
  });
  return profiler;
}

void Profiler::ChooseRows(int64_t logit_bytes) {
  int64_t all = 0;
  for (const TextBatch batch : walk_->batches()) {
    compared_.push_back(PredictingRowsOf(batch));
    all += std::ssize(compared_.back().rows);
  }
  const int64_t row_bytes = int64_t{config().vocab_size} * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::clamp<int64_t>(logit_bytes / row_bytes, 1, kMostCompared);
  const int64_t step = (all + most - 1) / most;
  int64_t index = 0;
  for (PredictingRows& rows : compared_) {
    PredictingRows chosen;
    for (size_t i = 0; i < rows.rows.size(); ++i) {
      if (index++ % step != 0) continue;
      chosen.rows.push_back(rows.rows[i]);
      chosen.targets.push_back(rows.targets[i]);
    }
    rows = std::move(chosen);
  }
}

template <typename Look>
void Profiler::Finish(const Tensor& stream, int first, const Look& look) {
  size_t batch = 0;
  int64_t done = 0;
  walk_->ForEachBatch([&](LayerWalk::Rows rows) {
    for (int i = first; i < config().num_layers; ++i) {
      walk_->RunAttention(stream, rows, i, walk_->layer(i));
      walk_->RunFeedForward(stream, rows, i, walk_->layer(i));
    }
    walk_->ReadFinal(stream, rows);
    const PredictingRows& compared = compared_[batch++];
    for (size_t at = 0; at < compared.rows.size(); at += Reader::kMaxLogitRows) {
      const size_t count = std::min<size_t>(Reader::kMaxLogitRows, compared.rows.size() - at);
      const TensorView logits = walk_->Logits(std::span(compared.rows).subspan(at, count));
      look(done, logits, std::span(compared.targets).subspan(at, count));
      done += static_cast<int64_t>(count);
    }
  });
}

absl::StatusOr<Divergence> Profiler::Measure(const LayerComposition& composition) {
  LayerCopy copy(walk_->layer(layer_));
  if (healer_) {
    MEA_ASSIGN_OR_RETURN(copy, healer_->TryNext(composition));
  } else {
    MEA_RETURN_IF_ERROR(copy.WriteOutHeads(plain_, layer_, composition, {}));
  }
  std::ranges::copy(front_.view().values<float>(), trial_.view().as<float>());
  RunLayer(trial_, copy.weights());
  return Score(trial_, layer_ + 1);
}

absl::Status Profiler::PassLayer() {
  RunLayer(front_, walk_->layer(layer_));
  if (healer_) {
    MEA_RETURN_IF_ERROR(healer_->HealNext({}, std::nullopt).status());
  }
  ++layer_;
  return absl::OkStatus();
}

void Profiler::RunLayer(const Tensor& stream, const LayerWeights& w) {
  walk_->ForEachBatch([&](LayerWalk::Rows rows) {
    walk_->RunAttention(stream, rows, layer_, w);
    walk_->RunFeedForward(stream, rows, layer_, w);
  });
}

Divergence Profiler::Score(const Tensor& stream, int first_layer) {
  Divergence sum{.top1 = 0};
  int64_t num_tokens = 0;
  std::vector<TokenDivergence> tokens(Reader::kMaxLogitRows);
  const auto row_of = [](const TensorView& rows, int64_t i) {
    return std::span<const float>(rows.row<float>(i), rows.shape[1]);
  };
  Finish(
      stream, first_layer, [&](int64_t first, TensorView logits, std::span<const int32_t> targets) {
        const int64_t count = logits.shape[0];
        InParallel(count, /*least=*/4, num_threads_, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            tokens[i] = Diverge(row_of(logits_.view(), first + i), row_of(logits, i), targets[i]);
          }
        });
        for (int64_t i = 0; i < count; ++i) {
          sum.loss += tokens[i].loss - tokens[i].plain_loss;
          sum.kl += tokens[i].kl;
          sum.top1 += tokens[i].same_top1 ? 1 : 0;
        }
        num_tokens += count;
      });
  const double share = 1 / static_cast<double>(num_tokens);
  return {.loss = share * sum.loss, .kl = share * sum.kl, .top1 = share * sum.top1};
}

}  // namespace mea::convert
