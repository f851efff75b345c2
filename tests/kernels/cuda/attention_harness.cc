#include "tests/kernels/cuda/attention_harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/simt/device_vector.h"

namespace mea::cuda {
namespace {

using simt::DeviceVector;

void Check(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error); }

// Ends the capture on `stream` and runs twice what was recorded.
void Replay(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Check(cudaStreamEndCapture(stream, &graph));
  Check(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 2; ++i) Check(cudaGraphLaunch(exec, stream));
  Check(cudaStreamSynchronize(stream));
  Check(cudaGraphExecDestroy(exec));
  Check(cudaGraphDestroy(graph));
}

template <class T>
std::vector<T> ElementsOf(TensorView view) {
  if (view.empty()) return {};
  return std::vector<T>(view.as<T>(), view.as<T>() + view.num_elements());
}

}  // namespace

CudaAttentionData::CudaAttentionData(const AttentionCase& c) : case_(c) {
  const auto num_seqs = static_cast<int>(c.sequences.size());
  for (const auto& sequence : c.sequences) {
    num_rows_ += sequence.q_len;
    max_pages_ = std::max(max_pages_, (sequence.kv_len + c.page_size - 1) / c.page_size + 1);
  }
  num_pages_ = num_seqs * max_pages_ + 3;
  const auto random = [&](std::initializer_list<int64_t> shape, uint64_t salt) {
    return Convert(Random(shape, DType::kBf16, c.seed + salt), DType::kF64);
  };
  q_ = random({num_rows_, c.q_heads, c.head_dim}, 1);
  keys_ = random({num_pages_, c.key_heads, c.page_size, c.head_dim}, 2);
  values_ = random({num_pages_, c.value_heads, c.page_size, c.head_dim}, 3);
  if (c.key_norms) {
    key_norms_ = Random({num_pages_, c.kv_heads, c.page_size}, DType::kF32, c.seed + 4);
  }
  // Composed heads as long as components: scores stay moderate, as a model's are.
  const auto random_mix = [&](int heads, uint64_t salt) {
    return Random({heads, c.kv_heads}, DType::kF32, c.seed + salt, 1.0 / std::sqrt(heads));
  };
  if (c.key_mix) key_mix_ = random_mix(c.key_heads, 5);
  if (c.value_mix) value_mix_ = random_mix(c.value_heads, 6);
  if (c.head_norm) head_norm_gain_ = Random({c.q_heads, c.head_dim}, DType::kF32, c.seed + 7);

  // Pages in random order. Entries in front of every row's window and behind the last token are
  // never looked at; slots without a token hold NaN.
  std::vector<int32_t> pages(num_pages_);
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(c.seed + 8));
  std::vector<char> holds_token(static_cast<size_t>(num_pages_) * c.page_size, 0);
  page_table_.assign(static_cast<size_t>(num_seqs) * max_pages_, INT32_MAX);
  size_t next_page = 0;
  for (int s = 0; s < num_seqs; ++s) {
    const auto [kv_len, q_len] = c.sequences[s];
    const int first = c.window > 0 ? std::max(0, kv_len - q_len + 1 - c.window) : 0;
    for (int t = first; t < kv_len; ++t) {
      int32_t& page = page_table_[s * max_pages_ + t / c.page_size];
      if (page == INT32_MAX) page = pages[next_page++];
      holds_token[page * c.page_size + t % c.page_size] = 1;
    }
  }
  const auto poison = [&](const Tensor& slabs, int heads, int width) {
    if (slabs.view().empty()) return;
    for (int page = 0; page < num_pages_; ++page) {
      for (int slot = 0; slot < c.page_size; ++slot) {
        if (holds_token[page * c.page_size + slot]) continue;
        for (int head = 0; head < heads; ++head) {
          const int64_t at = ((int64_t{page} * heads + head) * c.page_size + slot) * width;
          for (int e = 0; e < width; ++e) {
            if (slabs.view().dtype == DType::kF64) {
              slabs.view().as<double>()[at + e] = std::numeric_limits<double>::quiet_NaN();
            } else {
              slabs.view().as<float>()[at + e] = std::numeric_limits<float>::quiet_NaN();
            }
          }
        }
      }
    }
  };
  poison(keys_, c.key_heads, c.head_dim);
  poison(values_, c.value_heads, c.head_dim);
  poison(key_norms_, c.kv_heads, 1);
}

Tensor CudaAttentionData::Reference(const Tensor& keys, const Tensor& values,
                                    const Tensor& key_norms, const HeadMix& mix) const {
  const AttentionCase& c = case_;
  const auto num_seqs = static_cast<int64_t>(c.sequences.size());
  std::vector<int32_t> q_offsets = {0};
  std::vector<int32_t> kv_lens;
  for (const auto& sequence : c.sequences) {
    q_offsets.push_back(q_offsets.back() + sequence.q_len);
    kv_lens.push_back(sequence.kv_len);
  }
  const Tensor offsets = Ints(q_offsets);
  const Tensor lens = Ints(kv_lens);
  const Tensor table = Ints(page_table_);
  const Tensor out = Poisoned({num_rows_, c.q_heads, c.head_dim}, DType::kF64);
  const auto reference = CreateReferenceBackend();
  reference->PagedAttention(
      {.q = q_.view(),
       .q_offsets = offsets.view(),
       .kv_lens = lens.view(),
       .page_table = table.view().Reshape({num_seqs, max_pages_}),
       .kv = {.spec = {.key_heads = static_cast<int>(keys.view().shape[1]),
                       .value_heads = static_cast<int>(values.view().shape[1]),
                       .head_dim = c.head_dim,
                       .dtype = DType::kF64,
                       .key_norm_heads = key_norms.view().empty() ? 0 : c.kv_heads},
              .page_size = c.page_size,
              .keys = keys.view(),
              .values = values.view(),
              .key_norms = key_norms.view()},
       .mix = mix,
       .kv_heads = c.kv_heads,
       .window = c.window,
       .scale = 1.0 / std::sqrt(c.head_dim),
       .head_norm_gain = head_norm_gain_.view(),
       .out = out.view()});
  return out;
}

Tensor CudaAttentionData::ExpectedOfExpanded() const {
  const Tensor no_norms;
  return Reference(Expand(keys_, key_mix_, key_norms_), Expand(values_, value_mix_, no_norms),
                   no_norms, {});
}

Tensor CudaAttentionData::Expand(const Tensor& heads, const Tensor& mix,
                                 const Tensor& norms) const {
  const AttentionCase& c = case_;
  const auto num_heads = static_cast<int>(heads.view().shape[1]);
  const int64_t width = int64_t{c.page_size} * c.head_dim;
  Tensor out = Allocate({num_pages_, c.kv_heads, c.page_size, c.head_dim}, DType::kF64);
  double* element = out.view().as<double>();
  for (int page = 0; page < num_pages_; ++page) {
    for (int g = 0; g < c.kv_heads; ++g) {
      for (int64_t i = 0; i < width; ++i) {
        double sum = 0.0;
        for (int head = 0; head < num_heads; ++head) {
          const double weight = mix.view().empty() ? (head == g ? 1.0 : 0.0)
                                                   : mix.view().as<float>()[head * c.kv_heads + g];
          sum += weight * heads.view().as<double>()[(int64_t{page} * num_heads + head) * width + i];
        }
        if (!norms.view().empty()) {
          sum *= norms.view()
                     .as<float>()[(int64_t{page} * c.kv_heads + g) * c.page_size + i / c.head_dim];
        }
        *element++ = ToFloat(ToBf16(static_cast<float>(sum)));
      }
    }
  }
  return out;
}

std::vector<Bf16> CudaAttentionData::DeviceSlabs(const Tensor& vectors, int heads) const {
  const SlabLayout layout = {case_.page_size, case_.head_dim};
  std::vector<Bf16> slabs(vectors.view().num_elements());
  const double* source = vectors.view().as<double>();
  for (int page = 0; page < num_pages_; ++page) {
    for (int head = 0; head < heads; ++head) {
      Bf16* slab = slabs.data() + layout.SlabBegin(page, heads, head);
      for (int t = 0; t < case_.page_size; ++t) {
        for (int e = 0; e < case_.head_dim; ++e) {
          slab[layout.Offset(t, e)] = ToBf16(static_cast<float>(*source++));
        }
      }
    }
  }
  return slabs;
}

Tensor CudaAttentionData::Run(const RunOptions& options) const {
  const AttentionCase& c = case_;
  const int num_seqs = static_cast<int>(c.sequences.size()) + options.num_padded;
  const int first_row = options.last_queries > 0 ? num_rows_ - options.last_queries : 0;
  const int num_rows = num_rows_ - first_row + options.num_padded;
  std::vector<int32_t> q_offsets = {0};
  std::vector<int32_t> kv_lens;
  for (const auto& sequence : c.sequences) {
    q_offsets.push_back(q_offsets.back() + sequence.q_len - first_row);
    kv_lens.push_back(sequence.kv_len);
  }
  for (int i = 0; i < options.num_padded; ++i) {
    q_offsets.push_back(q_offsets.back() + 1);
    kv_lens.push_back(0);
  }
  std::vector<int32_t> page_table = page_table_;
  page_table.resize(static_cast<size_t>(num_seqs) * max_pages_, INT32_MAX);
  std::vector<Bf16> q = ElementsOf<Bf16>(Convert(q_, DType::kBf16).view());
  q.erase(q.begin(), q.begin() + int64_t{first_row} * c.q_heads * c.head_dim);
  q.resize(static_cast<size_t>(num_rows) * c.q_heads * c.head_dim, Bf16{0x7fc0});

  const int64_t row_elements = int64_t{c.q_heads} * c.head_dim;
  const int64_t q_stride = row_elements + options.q_padding;
  std::vector<Bf16> strided_q(num_rows * q_stride, Bf16{0x7fc0});
  for (int row = 0; row < num_rows; ++row) {
    std::copy_n(q.data() + row * row_elements, row_elements, strided_q.data() + row * q_stride);
  }
  const DeviceVector device_q(strided_q);
  const DeviceVector device_offsets(q_offsets);
  const DeviceVector device_lens(kv_lens);
  const DeviceVector device_table(page_table);
  const DeviceVector keys(DeviceSlabs(keys_, c.key_heads));
  const DeviceVector values(DeviceSlabs(values_, c.value_heads));
  const DeviceVector key_norms(ElementsOf<float>(key_norms_.view()));
  const DeviceVector key_mix(ElementsOf<float>(key_mix_.view()));
  const DeviceVector value_mix(ElementsOf<float>(value_mix_.view()));
  const DeviceVector gain(ElementsOf<float>(head_norm_gain_.view()));
  const DeviceVector<Bf16> out(q.size());

  int max_context = 1;
  for (const auto& sequence : c.sequences) max_context = std::max(max_context, sequence.kv_len);
  const AttentionShape shape = {.q_heads = c.q_heads,
                                .kv_heads = c.kv_heads,
                                .head_dim = c.head_dim,
                                .page_size = c.page_size,
                                .window = c.window,
                                .is_expanded = c.key_mix || c.value_mix || c.key_norms};
  const auto plan = PlanAttention({.max_rows = num_rows,
                                   .max_seqs = options.max_seqs > 0 ? options.max_seqs : num_seqs,
                                   .max_context = max_context,
                                   .num_sms = options.num_sms,
                                   .sm_version = options.sm_version},
                                  std::span(&shape, 1));
  EXPECT_TRUE(plan.ok()) << plan.status().ToString();
  const DeviceVector<std::byte> workspace(plan->workspace_bytes);
  PagedAttention attention(*plan, workspace.data());
  const AttentionParams params = {.q = device_q.data(),
                                  .q_stride = options.q_padding > 0 ? q_stride : 0,
                                  .q_offsets = device_offsets.data(),
                                  .kv_lens = device_lens.data(),
                                  .page_table = device_table.data(),
                                  .keys = keys.data(),
                                  .values = values.data(),
                                  .key_norms = key_norms.data(),
                                  .key_mix = key_mix.data(),
                                  .value_mix = value_mix.data(),
                                  .head_norm_gain = gain.data(),
                                  .out = out.data(),
                                  .num_rows = num_rows,
                                  .num_seqs = num_seqs,
                                  .page_table_stride = max_pages_,
                                  .q_heads = c.q_heads,
                                  .kv_heads = c.kv_heads,
                                  .key_heads = c.key_heads,
                                  .value_heads = c.value_heads,
                                  .head_dim = c.head_dim,
                                  .page_size = c.page_size,
                                  .window = c.window,
                                  .scale = static_cast<float>(1.0 / std::sqrt(c.head_dim)),
                                  .head_norm_eps = 1e-5f};
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreate(&stream));
  if (options.is_recorded) {
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    attention.BeginStep(q_offsets, std::vector<int32_t>(num_seqs, 1));
  } else {
    attention.BeginStep(q_offsets, kv_lens);
  }
  const AttentionOptions how = {.kernel = options.kernel,
                                .prefill_kernel = options.prefill_kernel,
                                .rounding = options.rounding,
                                .is_batch_invariant = options.is_batch_invariant};
  Check(attention.Run(params, how, stream));
  if (options.is_recorded) Replay(stream);
  Check(cudaStreamSynchronize(stream));
  Check(cudaStreamDestroy(stream));
  Tensor result = Allocate({num_rows, c.q_heads, c.head_dim}, DType::kBf16);
  std::ranges::copy(out.ToHost(), result.view().as<Bf16>());
  return result;
}

double WorstHeadError(TensorView actual, TensorView expected) {
  constexpr double kHalfUlp = 0x1p-8;
  const int64_t head_dim = expected.shape[2];
  double worst = 0.0;
  for (int64_t i = 0; i < expected.num_elements(); i += head_dim) {
    double error = 0.0;
    double size = 0.0;
    for (int64_t e = i; e < i + head_dim; ++e) {
      const double want = expected.as<double>()[e];
      const double got = ToFloat(actual.as<Bf16>()[e]);
      if (!std::isfinite(got)) return std::numeric_limits<double>::infinity();
      const double beyond = std::max(0.0, std::abs(got - want) - kHalfUlp * std::abs(want));
      error += beyond * beyond;
      size += want * want;
    }
    worst = std::max(worst, std::sqrt(error / size));
  }
  return worst;
}

void ExpectAgreement(const AttentionCase& c, const RunOptions& options, double tolerance,
                     Heads heads) {
  SCOPED_TRACE(::testing::Message()
               << "q_heads " << c.q_heads << " kv_heads " << c.kv_heads << " key_heads "
               << c.key_heads << " value_heads " << c.value_heads << " head_dim " << c.head_dim
               << " page_size " << c.page_size << " window " << c.window << " seed " << c.seed);
  const CudaAttentionData data(c);
  const Tensor expected = heads == Heads::kCached ? data.Expected() : data.ExpectedOfExpanded();
  const Tensor actual = data.Run(options);
  EXPECT_LE(WorstHeadError(actual.view().Rows(0, data.num_rows()), expected.view()), tolerance);
  const TensorView padded = actual.view().Rows(data.num_rows(), options.num_padded);
  for (int64_t i = 0; i < padded.num_elements(); ++i) {
    ASSERT_EQ(padded.as<Bf16>()[i].bits & 0x7fff, 0) << "element " << i << " of padded rows";
  }
}

}  // namespace mea::cuda
