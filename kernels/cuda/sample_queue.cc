#include "kernels/cuda/sample_queue.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/sample/sample.h"

namespace mea::cuda {
namespace {

// Room for the edits of one row, which may touch the whole vocabulary, or of many usual rows.
constexpr int kLeastEdits = 1 << 18;

SampleQueue::Buffers CarveBuffers(int max_rows, int max_edits, int64_t mask_words, Carver& carver) {
  return {.rows = carver.Take<SampleRow>(max_rows),
          .edits = carver.Take<LogitEdit>(max_edits),
          .masks = carver.Take<uint32_t>(max_rows * mask_words),
          .tokens = carver.Take<SampledToken>(max_rows),
          .targets = carver.Take<int32_t>(max_rows),
          .logprobs = carver.Take<float>(max_rows)};
}

}  // namespace

SampleQueue::Scratch SampleQueue::Carve(const BackendLimits& limits, Carver& device, Carver& host) {
  const int max_rows = limits.max_logit_rows;
  // No more than every row editing every token.
  const int64_t most = int64_t{max_rows} * limits.vocab_size;
  const int max_edits =
      static_cast<int>(std::min<int64_t>(most, std::max(kLeastEdits, limits.vocab_size)));
  const int64_t words = MaskWords(limits.vocab_size);
  Scratch scratch{.device = CarveBuffers(max_rows, max_edits, words, device),
                  .host = {CarveBuffers(max_rows, max_edits, words, host),
                           CarveBuffers(max_rows, max_edits, words, host)},
                  .max_rows = max_rows,
                  .max_edits = max_edits};
  scratch.edited = device.Take<float>(most);
  return scratch;
}

void SampleQueue::Sample(const SampleArgs& args) {
  const auto& [logits, rows, edits, masks, tokens] = args;
  for (size_t first = 0; first < rows.size();) {
    if (!Flush()) return;
    const int count = Stage(rows.subspan(first), edits, masks, MaskWords(logits.shape[1]));
    Launch(logits.Rows(static_cast<int64_t>(first), count), tokens.subspan(first, count));
    first += count;
  }
}

int SampleQueue::Stage(std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
                       std::span<const uint32_t> masks, int64_t mask_words) {
  num_staged_edits_ = 0;
  num_staged_masks_ = 0;
  const int most = static_cast<int>(std::min<size_t>(rows.size(), scratch_.max_rows));
  for (int i = 0; i < most; ++i) {
    const int count = rows[i].edits_end - rows[i].edits_begin;
    MEA_CHECK(count >= 0 && count <= scratch_.max_edits);
    if (num_staged_edits_ + count > scratch_.max_edits) return i;
    SampleRow& row = host().rows[i] = rows[i];
    row.edits_begin = num_staged_edits_;
    row.edits_end = num_staged_edits_ + count;
    std::copy_n(edits.data() + rows[i].edits_begin, count, host().edits + num_staged_edits_);
    num_staged_edits_ += count;
    if (rows[i].mask < 0) continue;
    row.mask = num_staged_masks_++;
    std::copy_n(masks.data() + rows[i].mask * mask_words, mask_words,
                host().masks + row.mask * mask_words);
  }
  return most;
}

void SampleQueue::Launch(TensorView logits, std::span<SampledToken> tokens) {
  const int64_t count = std::ssize(tokens);
  const Buffers& device = scratch_.device;
  const Buffers& host = this->host();
  if (!runtime_->CopyBytes(host.rows, device.rows, count * sizeof(SampleRow),
                           cudaMemcpyHostToDevice) ||
      !runtime_->CopyBytes(host.edits, device.edits, num_staged_edits_ * sizeof(LogitEdit),
                           cudaMemcpyHostToDevice) ||
      (num_staged_masks_ > 0 &&
       !runtime_->CopyBytes(host.masks, device.masks,
                            num_staged_masks_ * MaskWords(logits.shape[1]) * sizeof(uint32_t),
                            cudaMemcpyHostToDevice)) ||
      !runtime_->Check(LaunchSample({.logits = logits.as<float>(),
                                     .logits_stride = logits.stride[0],
                                     .rows = device.rows,
                                     .edits = device.edits,
                                     .masks = device.masks,
                                     .edited = scratch_.edited,
                                     .tokens = device.tokens,
                                     .num_rows = static_cast<int>(count),
                                     .vocab = static_cast<int>(logits.shape[1])},
                                    runtime_->stream())) ||
      !runtime_->CopyBytes(device.tokens, host.tokens, count * sizeof(SampledToken),
                           cudaMemcpyDeviceToHost)) {
    return;
  }
  destinations_[slot_].tokens = tokens;
}

void SampleQueue::TokenLogprobs(const TokenLogprobsArgs& args) {
  const auto& [logits, targets, logprobs] = args;
  const Buffers& device = scratch_.device;
  const Buffers& host = this->host();
  for (size_t first = 0; first < targets.size();) {
    if (!Flush()) return;
    const size_t count = std::min<size_t>(targets.size() - first, scratch_.max_rows);
    const TensorView rows = logits.Rows(first, count);
    std::copy_n(targets.begin() + first, count, host.targets);
    if (!runtime_->CopyBytes(host.targets, device.targets, count * sizeof(int32_t),
                             cudaMemcpyHostToDevice) ||
        !runtime_->Check(LaunchTokenLogprobs({.logits = rows.as<float>(),
                                              .logits_stride = rows.stride[0],
                                              .targets = device.targets,
                                              .logprobs = device.logprobs,
                                              .num_rows = static_cast<int>(count),
                                              .vocab = static_cast<int>(rows.shape[1])},
                                             runtime_->stream())) ||
        !runtime_->CopyBytes(device.logprobs, host.logprobs, count * sizeof(float),
                             cudaMemcpyDeviceToHost)) {
      return;
    }
    destinations_[slot_].logprobs = logprobs.subspan(first, count);
    first += count;
  }
}

bool SampleQueue::Flush() {
  if (destinations_[slot_].tokens.empty() && destinations_[slot_].logprobs.empty()) return true;
  if (!runtime_->Synchronize().ok()) return false;
  Collect(slot_);
  return true;
}

void SampleQueue::Collect(int slot) {
  const auto [tokens, logprobs] = std::exchange(destinations_[slot], {});
  std::copy_n(scratch_.host[slot].tokens, tokens.size(), tokens.begin());
  std::copy_n(scratch_.host[slot].logprobs, logprobs.size(), logprobs.begin());
}

}  // namespace mea::cuda
