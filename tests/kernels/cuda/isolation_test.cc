// What one sequence's visible keys and values hold moves no bit of another's result, for every
// kernel of attention. Blocks pass from sequence to sequence, and their shared memory with them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

#include "tests/kernels/attention_case.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/staged_backend.h"

namespace mea {
namespace {

struct Kernels {
  const char* name;
  CudaDecodeKernel decode = CudaDecodeKernel::kAuto;
  CudaPrefillKernel prefill = CudaPrefillKernel::kAuto;
  AttentionCase heads;
  bool has_chunks = false;
  KvDTypes dtype = DType::kBf16;
};
void PrintTo(const Kernels& kernels, std::ostream* out) { *out << kernels.name; }

AttentionCase Mixed(int head_dim) {
  return {.q_heads = 8,
          .kv_heads = 4,
          .key_heads = 2,
          .value_heads = 2,
          .head_dim = head_dim,
          .key_mix = true,
          .value_mix = true};
}
AttentionCase Plain(int head_dim) {
  return {.q_heads = 4, .kv_heads = 2, .key_heads = 2, .value_heads = 2, .head_dim = head_dim};
}
AttentionCase MixedAndNormed(int head_dim) {
  AttentionCase heads = Mixed(head_dim);
  heads.key_norms = true;
  return heads;
}
AttentionCase Interleaved() {
  return {.q_heads = 6,
          .kv_heads = 3,
          .key_heads = 3,
          .value_heads = 3,
          .head_dim = 64,
          .pseudo_heads = 2};
}

constexpr auto kMma = CudaDecodeKernel::kMma;
constexpr auto kWgmma = CudaDecodeKernel::kWgmma;
constexpr auto kLongMma = CudaPrefillKernel::kMma;
constexpr auto kLongWgmma = CudaPrefillKernel::kWgmma;

std::vector<Kernels> AllKernels() {
  return {
      {"General", CudaDecodeKernel::kGeneral, kLongMma, MixedAndNormed(64), true},
      {"DecodeMma64", kMma, kLongMma, Mixed(64)},
      {"DecodeMma128", kMma, kLongMma, MixedAndNormed(128)},
      {"DecodeMmaPlain", kMma, kLongMma, Plain(128)},
      {"DecodeWgmma64", kWgmma, kLongMma, MixedAndNormed(64)},
      {"DecodeWgmma128", kWgmma, kLongMma, Mixed(128)},
      {"DecodeWgmmaPlain", kWgmma, kLongMma, Plain(64)},
      {"PrefillMma", kMma, kLongMma, Plain(64), true},
      {"PrefillMmaExpanded", kMma, kLongMma, MixedAndNormed(128), true},
      {"PrefillWgmma", kMma, kLongWgmma, Plain(128), true},
      {"PrefillWgmmaExpanded", kMma, kLongWgmma, MixedAndNormed(64), true},
      {"Interleaved", kMma, kLongMma, Interleaved(), true},
      {"GeneralInt8", CudaDecodeKernel::kGeneral, kLongMma, MixedAndNormed(64), true, DType::kI8},
      {"GeneralInt4", CudaDecodeKernel::kGeneral, kLongMma, Plain(96), true, DType::kI4},
      {"Int8", kMma, kLongMma, MixedAndNormed(64), true, DType::kI8},
      {"Int8Plain", kMma, kLongMma, Plain(128), true, DType::kI8},
      {"Int8Int4", kMma, kLongMma, Mixed(128), true, {DType::kI8, DType::kI4}},
      {"Int4", kMma, kLongMma, MixedAndNormed(128), true, DType::kI4},
      {"Int4Plain", kMma, kLongMma, Plain(64), true, DType::kI4},
      {"Int4PrefillWgmma", kMma, kLongWgmma, Plain(64), true, DType::kI4},
      {"InterleavedInt4", kMma, kLongMma, Interleaved(), true, DType::kI4},
  };
}

class IsolationTest : public ::testing::TestWithParam<Kernels> {};

TEST_P(IsolationTest, NumbersThatAreNotFiniteStayInTheirSequence) {
  const Kernels& kernels = GetParam();
  CudaOptions options = kTestedCuda;
  options.decode_kernel = kernels.decode;
  options.prefill_kernel = kernels.prefill;
  const std::unique_ptr<Backend> cuda = MakeCuda(options);
  if (cuda == nullptr) GTEST_SKIP() << "no CUDA device here";
  const std::unique_ptr<Backend> staged = MakeStaged(cuda.get());

  // More sequences than blocks; ends inside tiles, whole tiles, several tiles, a split.
  AttentionCase c = kernels.heads;
  c.dtype = kernels.dtype;
  c.inputs = DType::kBf16;
  c.page_size = 64;
  for (const int kv_len : {70, 200, 5, 64, 1, 130, 300, 33, 65, 2, 127, 90, 40, 192, 3, 150}) {
    const bool is_chunk = kernels.has_chunks && kv_len % 10 == 0;
    c.sequences.push_back({.kv_len = kv_len, .q_len = is_chunk ? 20 : 1});
  }
  const AttentionCase::Sequence longest = *std::ranges::max_element(
      c.sequences, {}, [](const AttentionCase::Sequence& s) { return s.kv_len; });
  int num_tokens = 0;
  for (const auto& sequence : c.sequences) num_tokens += sequence.kv_len;
  ASSERT_TRUE(cuda->Prepare({.max_rows = num_tokens,
                             .max_seqs = static_cast<int>(c.sequences.size()),
                             .max_context = longest.kv_len,
                             .max_logit_rows = 1,
                             .page_size = c.page_size,
                             .hidden_size = 64,
                             .vocab_size = 64,
                             .attention = {{.q_heads = c.q_heads,
                                            .kv_heads = c.kv_heads * std::max(1, c.pseudo_heads),
                                            .head_dim = c.head_dim,
                                            .is_composed = c.key_mix || c.pseudo_heads > 0,
                                            .pseudo_heads = c.pseudo_heads,
                                            .kv_dtype = c.dtype}}})
                  .ok());

  const Tensor expected = AttentionData(c).Run(*staged);
  for (const float value :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const int first : {0, 1}) {
      AttentionData damaged(c);
      for (int seq = first; seq < std::ssize(c.sequences); seq += 2)
        damaged.FillSequence(seq, value);
      const Tensor actual = damaged.Run(*staged);
      int row = 0;
      for (int seq = 0; seq < std::ssize(c.sequences); ++seq) {
        const int q_len = c.sequences[seq].q_len;
        const TensorView rows = actual.view().Rows(row, q_len);
        if (seq % 2 == first) {
          EXPECT_FALSE(std::isfinite(ToFloat(rows.as<Bf16>()[0]))) << "sequence " << seq;
        } else {
          EXPECT_TRUE(BitwiseEqual(rows, expected.view().Rows(row, q_len)))
              << value << ": sequence " << seq << " with " << c.sequences[seq].kv_len << " tokens";
        }
        row += q_len;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, IsolationTest, ::testing::ValuesIn(AllKernels()),
                         [](const auto& kernels) { return kernels.param.name; });

}  // namespace
}  // namespace mea
