#include "engine/bench/stepper.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <span>

#include "absl/strings/str_cat.h"
#include "kernels/int4_heads.h"
#include "kernels/int8_rows.h"
#include "kernels/random_fill.h"
#include "kernels/status_macros.h"
#include "kernels/uniform.h"

namespace mea {
namespace {

std::vector<int32_t> ArbitraryTokens(int count, int vocab_size, uint64_t seed) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) {
    tokens[i] = static_cast<int32_t>(UniformAt(seed, i) * vocab_size);
  }
  return tokens;
}

// Integers and scales of one token in the slab of a head. Their order does not change the time.
void FillToken(std::byte* slab, const TensorView& slabs, int64_t token, std::vector<float>& x) {
  const int64_t page_size = slabs.shape[2];
  const auto d = std::ssize(x);
  std::byte* const elements = slab + token * slabs.stride[2];
  if (slabs.dtype == DType::kI8) {
    SlabScales(reinterpret_cast<int8_t*>(slab), page_size, d)[token] =
        QuantizeHead(x.data(), d, reinterpret_cast<int8_t*>(elements));
    return;
  }
  std::vector<uint8_t> integers(d);
  const auto [scale, zero] = QuantizeInt4Head(x.data(), d, integers.data());
  PackInt4Head(integers.data(), d, reinterpret_cast<Int4Pair*>(elements));
  Bf16* const scales = Int4SlabScales(reinterpret_cast<Int4Pair*>(slab), page_size, d);
  scales[token] = scale;
  scales[page_size + token] = zero;
}

// Keys or values of a layer. Only the host has integers; there every page gets the same contents.
absl::Status FillSlabs(Backend& backend, TensorView slabs, uint64_t seed) {
  if (!IsIntegerCache(slabs.dtype)) return FillRandom(backend, slabs, {.seed = seed});
  auto* const first_page = static_cast<std::byte*>(slabs.data);
  std::vector<float> x(slabs.shape[3]);
  uint64_t drawn = 0;
  for (int64_t head = 0; head < slabs.shape[1]; ++head) {
    for (int64_t token = 0; token < slabs.shape[2]; ++token) {
      for (float& value : x) value = 2 * static_cast<float>(UniformAt(seed, drawn++)) - 1;
      FillToken(first_page + head * slabs.stride[1], slabs, token, x);
    }
  }
  for (int64_t page = 1; page < slabs.shape[0]; ++page) {
    std::memcpy(first_page + page * slabs.stride[0], first_page, slabs.stride[0]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status FillCache(Backend& backend, const KvCache& kv) {
  for (size_t layer = 0; layer < kv.layout().layers.size(); ++layer) {
    const PagedKvView view = kv.layer(static_cast<int>(layer));
    absl::Status status = FillSlabs(backend, view.keys, 2 * layer);
    status.Update(FillSlabs(backend, view.values, 2 * layer + 1));
    if (!view.key_norms.empty()) {
      status.Update(FillRandom(backend, view.key_norms, {.low = 0.5f, .high = 1.5f}));
    }
    MEA_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status Stepper::Set(const std::vector<StepSequence>& sequences) {
  sequences_.clear();
  Schedule schedule;
  for (const StepSequence& s : sequences) {
    const auto number = static_cast<int64_t>(sequences_.size());
    auto sequence = std::make_unique<Sequence>(
        Request{.id = absl::StrCat(number),
                .prompt = ArbitraryTokens(s.length, model_->config().vocab_size, number)},
        nullptr, kv_->NewPageTable(), number);
    if (!kv_->Reserve(sequence->pages, s.length - s.num_tokens, s.length)) {
      return absl::ResourceExhaustedError(absl::StrCat("the cache of ", kv_->stats().max_tokens,
                                                       " tokens holds ", number, " of ",
                                                       sequences.size(), " sequences"));
    }
    schedule.push_back(
        {.sequence = sequence.get(), .begin = s.length - s.num_tokens, .num_tokens = s.num_tokens});
    sequences_.push_back(std::move(sequence));
  }
  batch_.Build(schedule, kv_->layout().page_size);
  rows_.clear();
  for (int i = 0; i < batch_.num_seqs(); ++i) rows_.push_back(batch_.last_row(i));
  draws_.assign(rows_.size(), {.temperature = 0});
  for (auto& tokens : tokens_) tokens.assign(rows_.size(), {});
  if (batch_.is_decode()) batch_.PadTo(model_->backend().PaddedRows(batch_.num_tokens()));
  return absl::OkStatus();
}

void Stepper::Launch(std::vector<SampledToken>& tokens) {
  model_->Forward(batch_, *kv_);
  const size_t group = model_->limits().max_logit_rows;
  for (size_t first = 0; first < rows_.size(); first += group) {
    const size_t count = std::min(group, rows_.size() - first);
    const TensorView logits = model_->Logits(std::span(rows_).subspan(first, count));
    model_->backend().Sample({.logits = logits,
                              .rows = std::span(draws_).subspan(first, count),
                              .tokens = std::span(tokens).subspan(first, count)});
  }
}

absl::Status Stepper::Run(int count) {
  Backend& backend = model_->backend();
  int64_t before = 0;
  for (int i = 0; i < count; ++i) {
    last_ ^= 1;
    Launch(tokens_[last_]);
    const int64_t event = backend.RecordEvent();
    if (i > 0) {
      MEA_RETURN_IF_ERROR(backend.WaitEvent(before));
    }
    before = event;
  }
  return backend.WaitEvent(before);
}

}  // namespace mea
