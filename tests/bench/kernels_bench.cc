// Speed of the CPU back end's large ops beside the machine's own roofline, measured in the same
// run. Bytes and flops come from kernels/cost. Run it on a quiet machine, for example
//   kernels_bench --benchmark_min_time=1 --benchmark_repetitions=5
//       --benchmark_report_aggregates_only=true
// The number of threads is MEA_BENCH_THREADS (default: one per core). With one thread the rates
// are per second of CPU time, so that a neighbour on the machine disturbs them less.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cost.h"
#include "kernels/cpu/roofline.h"
#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"

namespace mea {
namespace {

int NumThreads() {
  const char* value = std::getenv("MEA_BENCH_THREADS");
  return value == nullptr ? 0 : std::atoi(value);
}

std::unique_ptr<Backend> MakeBackend() {
  auto backend = CreateCpuBackend({.num_threads = NumThreads()});
  if (!backend.ok()) std::abort();
  return *std::move(backend);
}

Tensor Filled(std::initializer_list<int64_t> shape, DType dtype);

Tensor FilledRows(int64_t rows, int64_t k) {
  const Tensor row = Filled({k}, DType::kF32);
  Tensor tensor = *AllocateInt8Rows(rows, k);
  for (int64_t i = 0; i < rows; ++i) {
    QuantizeRow(row.view().as<float>(), k, tensor.view().row<int8_t>(i));
  }
  return tensor;
}

Tensor FilledInt4Rows(int64_t rows, int64_t k) {
  const Tensor row = Filled({k}, DType::kF32);
  Tensor tensor = *AllocateInt4Rows(rows, k);
  Int4Pair* const first = tensor.view().row<Int4Pair>(0);
  QuantizeInt4Row(row.view().as<float>(), k, kInt4Group, first);
  for (int64_t i = 1; i < rows; ++i) {
    std::copy_n(first, Int4RowStride(k), tensor.view().row<Int4Pair>(i));
  }
  return tensor;
}

Tensor Filled(std::initializer_list<int64_t> shape, DType dtype) {
  if (dtype == DType::kI4) return FilledInt4Rows(*shape.begin(), *(shape.end() - 1));
  if (dtype == DType::kI8) return FilledRows(*shape.begin(), *(shape.end() - 1));
  Tensor tensor = *Tensor::AllocateHost(std::span(shape.begin(), shape.size()), dtype);
  std::minstd_rand generator(1);
  const int64_t count = tensor.view().num_elements();
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(generator() % 2001) * 1e-3f - 1.0f;
    if (dtype == DType::kF32) tensor.view().as<float>()[i] = value;
    if (dtype == DType::kBf16) tensor.view().as<Bf16>()[i] = ToBf16(value);
    if (dtype == DType::kF16) tensor.view().as<F16>()[i] = F16{static_cast<uint16_t>(i % 0x3c00)};
  }
  return tensor;
}

void Report(benchmark::State& state, const OpCost& cost) {
  using benchmark::Counter;
  const double rounds = static_cast<double>(state.iterations());
  state.counters["GB/s"] = Counter(1e-9 * cost.bytes * rounds, Counter::kIsRate);
  state.counters["GF/s"] = Counter(1e-9 * cost.flops * rounds, Counter::kIsRate);
}

void BM_ReadBandwidth(benchmark::State& state) {
  MemoryReader reader(NumThreads());
  for (auto _ : state) reader.Run();
  Report(state, {.bytes = reader.bytes(), .flops = 0});
}

// Argument: dtype.
void BM_ProductPeak(benchmark::State& state) {
  const auto weights = static_cast<DType>(state.range(0));
  ProductLoop loop(NumThreads());
  for (auto _ : state) loop.Run(weights);
  Report(state, {.bytes = 0, .flops = loop.flops(weights)});
}

// Arguments: rows, in, out, dtype. The weights rotate through enough copies to come from memory.
void BM_MatMul(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const auto dtype = static_cast<DType>(state.range(3));
  const auto backend = MakeBackend();
  const Tensor x = Filled({rows, in}, DType::kF32);
  const Tensor y = Filled({rows, out}, DType::kF32);
  const int64_t copies =
      std::max<int64_t>(1, (int64_t{128} << 20) / MatMulCost(0, in, out, dtype, DType::kF32).bytes);
  const Tensor w = Filled({copies * out, in}, dtype);
  int64_t copy = 0;
  for (auto _ : state) {
    backend->MatMul(x.view(), {.w = w.view().Rows(copy * out, out), .out = y.view()});
    copy = (copy + 1) % copies;
  }
  Report(state, MatMulCost(rows, in, out, dtype, DType::kF32));
}

// Arguments: rows, dtype. 32 experts of 512 for rows of 1024, four each; rows change, so that
// experts come from memory.
void BM_Moe(benchmark::State& state) {
  constexpr int64_t kHidden = 1024;
  constexpr MoeShape kShape = {.num_experts = 32, .top_k = 4, .ffn_size = 512};
  const int64_t rows = state.range(0);
  const auto dtype = static_cast<DType>(state.range(1));
  const auto backend = MakeBackend();
  const Tensor x = Filled({64 + rows, kHidden}, DType::kF32);
  const Tensor router = Filled({kShape.num_experts, kHidden}, DType::kBf16);
  std::vector<Tensor> matrices;
  std::vector<Expert> experts;
  for (int e = 0; e < kShape.num_experts; ++e) {
    matrices.push_back(Filled({2 * kShape.ffn_size, kHidden}, dtype));
    matrices.push_back(Filled({kHidden, kShape.ffn_size}, dtype));
    const TensorView gate_up = matrices[2 * e].view();
    experts.push_back({.gate = gate_up.Rows(0, kShape.ffn_size),
                       .up = gate_up.Rows(kShape.ffn_size, kShape.ffn_size),
                       .down = matrices[2 * e + 1].view()});
  }
  const Tensor inner = Filled({rows * kShape.top_k, kShape.ffn_size}, DType::kF32);
  const Tensor expert_rows = Filled({rows * kShape.top_k, kHidden}, DType::kF32);
  const Tensor out = Filled({rows, kHidden}, DType::kF32);
  int64_t first = 0;
  for (auto _ : state) {
    backend->Moe({.x = x.view().Rows(first, rows),
                  .router = router.view(),
                  .experts = experts,
                  .top_k = kShape.top_k,
                  .inner = inner.view(),
                  .rows = expert_rows.view(),
                  .out = out.view()});
    first = (first + 1) % 64;
  }
  Report(state, MoeCost(rows, kHidden, kShape, ExpectedExperts(kShape, rows), dtype, DType::kF32));
}

struct Heads {
  const char* name;
  int q_heads, kv_heads, key_heads, value_heads, head_dim;
  bool pivot = false;  // the mix is W = [I | W'], in which the first h' heads are components
};
constexpr Heads kHeads[] = {
    {"12 heads d=64, uncompressed", 12, 12, 12, 12, 64},
    {"12 heads d=64, h'=6", 12, 12, 6, 6, 64},
    {"32/8 heads d=64, uncompressed", 32, 8, 8, 8, 64},
    {"32/8 heads d=64, h'=4", 32, 8, 4, 4, 64},
    {"32/8 heads d=128, h'=4", 32, 8, 4, 4, 128},
    {"12 heads d=64, h'=6, pivot form", 12, 12, 6, 6, 64, true},
    {"32/8 heads d=64, h'=4, pivot form", 32, 8, 4, 4, 64, true},
    {"32 heads d=128, h'=16, pivot form", 32, 32, 16, 16, 128, true},
};

Tensor Mix(const Heads& heads, int components) {
  Tensor mix = Filled({components, heads.kv_heads}, DType::kF32);
  for (int c = 0; heads.pivot && c < components; ++c) {
    for (int i = 0; i < components; ++i) mix.view().row<float>(c)[i] = i == c ? 1.0f : 0.0f;
  }
  return mix;
}

// The keys or values of a layer; in integers every byte is 60, and every scale the BF16 of two
// such.
Tensor Slabs(int64_t pages, int64_t heads, int64_t page_size, int64_t head_dim, DType dtype) {
  if (!IsIntegerCache(dtype)) return Filled({pages, heads, page_size, head_dim}, dtype);
  const int64_t slab = page_size * KvHeadBytes(head_dim, dtype);
  const std::array<int64_t, 3> shape = {pages, heads, slab};
  const Tensor memory = *Tensor::AllocateHost(shape, dtype);
  std::memset(memory.view().data, 60, pages * heads * slab);
  TensorView view = memory.view();
  view.rank = 4;
  view.shape = {pages, heads, page_size, head_dim};
  view.stride = {heads * slab, slab, KvHeadElements(head_dim, dtype), 1};
  return Tensor(view, std::make_shared<Tensor>(memory));
}

// Arguments: row of kHeads, sequences, query tokens of each, cached tokens of each, dtype of the
// cache.
void BM_Attention(benchmark::State& state) {
  const Heads& heads = kHeads[state.range(0)];
  const int64_t num_seqs = state.range(1), q_len = state.range(2), kv_len = state.range(3);
  constexpr int kPageSize = 64;
  const int64_t num_pages = (kv_len + kPageSize - 1) / kPageSize;
  const bool composed = heads.key_heads != heads.kv_heads;
  const KvSpec spec = {.key_heads = heads.key_heads,
                       .value_heads = heads.value_heads,
                       .head_dim = heads.head_dim,
                       .dtype = static_cast<DType>(state.range(4))};
  const OpCost cost = PagedAttentionCost(
      {.kv = spec, .q_heads = heads.q_heads, .kv_heads = heads.kv_heads, .composed = composed},
      std::vector<SequenceLengths>(num_seqs, {.q_len = q_len, .kv_len = kv_len}), DType::kF32);

  const auto backend = MakeBackend();
  const int64_t layers = std::max<int64_t>(1, (int64_t{128} << 20) / cost.bytes);
  const int64_t all_pages = layers * num_seqs * num_pages;
  const Tensor keys = Slabs(all_pages, spec.key_heads, kPageSize, spec.head_dim, spec.dtype.keys);
  const Tensor values =
      Slabs(all_pages, spec.value_heads, kPageSize, spec.head_dim, spec.dtype.values);
  const Tensor key_mix = Mix(heads, spec.key_heads);
  const Tensor value_mix = Mix(heads, spec.value_heads);
  const Tensor q = Filled({num_seqs * q_len, heads.q_heads, spec.head_dim}, DType::kF32);
  const Tensor out = Filled({num_seqs * q_len, heads.q_heads, spec.head_dim}, DType::kF32);
  std::vector<int32_t> offsets(num_seqs + 1), lens(num_seqs, kv_len);
  for (int64_t s = 0; s <= num_seqs; ++s) offsets[s] = static_cast<int32_t>(s * q_len);
  std::vector<int32_t> pages(all_pages);
  for (int64_t i = 0; i < all_pages; ++i) pages[i] = static_cast<int32_t>(i);

  int64_t layer = 0;
  for (auto _ : state) {
    backend->PagedAttention(
        {.q = q.view(),
         .q_offsets = TensorView::Of<int32_t>(offsets),
         .kv_lens = TensorView::Of<int32_t>(lens),
         .page_table = TensorView::Dense(pages.data() + layer * num_seqs * num_pages, DType::kI32,
                                         {num_seqs, num_pages}),
         .kv = {.spec = spec, .page_size = kPageSize, .keys = keys.view(), .values = values.view()},
         .mix = composed ? HeadMix{.key = key_mix.view(), .value = value_mix.view()} : HeadMix{},
         .kv_heads = heads.kv_heads,
         .scale = 1.0 / std::sqrt(spec.head_dim),
         .out = out.view()});
    layer = (layer + 1) % layers;
  }
  Report(state, cost);
  state.SetLabel(heads.name);
}

void Register() {
  const bool one_thread = NumThreads() == 1;
  std::vector<benchmark::internal::Benchmark*> all;
  all.push_back(benchmark::RegisterBenchmark("ReadBandwidth", BM_ReadBandwidth));
  const auto bf16 = static_cast<int64_t>(DType::kBf16);
  const auto f16 = static_cast<int64_t>(DType::kF16);
  const auto f32 = static_cast<int64_t>(DType::kF32);
  const auto i8 = static_cast<int64_t>(DType::kI8);
  const auto i4 = static_cast<int64_t>(DType::kI4);
  all.push_back(benchmark::RegisterBenchmark("ProductPeak", BM_ProductPeak)
                    ->ArgNames({"dtype"})
                    ->ArgsProduct({{f32, bf16, i8}}));
  all.push_back(
      benchmark::RegisterBenchmark("MatMul", BM_MatMul)
          ->ArgNames({"rows", "in", "out", "dtype"})
          ->ArgsProduct({{1}, {2048}, {8192}, {f32, bf16, f16, i8, i4}})
          ->ArgsProduct({{1, 2, 4, 6, 8, 12, 16, 32, 64, 512}, {2048}, {2048}, {bf16, i8, i4}})
          ->ArgsProduct({{1}, {8192}, {2048}, {bf16, i8, i4}})
          ->Args({512, 768, 2048, bf16})
          ->Args({512, 8192, 2048, bf16}));
  all.push_back(benchmark::RegisterBenchmark("Moe", BM_Moe)
                    ->ArgNames({"rows", "dtype"})
                    ->ArgsProduct({{1, 4, 16, 64, 512}, {bf16, i8, i4}}));
  all.push_back(benchmark::RegisterBenchmark("Attention", BM_Attention)
                    ->ArgNames({"heads", "seqs", "q", "kv", "dtype"})
                    ->ArgsProduct({{0, 1, 2, 3, 4, 5, 6, 7}, {1}, {1}, {8192}, {bf16, i8, i4}})
                    ->ArgsProduct({{0, 1}, {1}, {1}, {512}, {bf16}})
                    ->ArgsProduct({{0, 1, 3, 5}, {16}, {1}, {512}, {bf16}})
                    ->ArgsProduct({{0, 1, 2, 3, 5, 6}, {1}, {512}, {512, 4096}, {bf16}}));
  for (auto* bench : all) {
    bench->Unit(benchmark::kMicrosecond);
    if (!one_thread) bench->UseRealTime();
  }
}

}  // namespace
}  // namespace mea

int main(int argc, char** argv) {
  mea::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
