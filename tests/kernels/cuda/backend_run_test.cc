// Steps of the CUDA back end, on the emulator: graphs that are replayed, memory, failures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_info.h"
#include "kernels/cuda/scratch.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/kernels/op_support.h"
#include "tests/simt/dlfcn.h"
#include "tests/simt/machine.h"

namespace mea {
namespace {

using ::testing::HasSubstr;

constexpr int kMaxRows = 16;
constexpr int kHidden = 64;
constexpr int kVocab = 40;
constexpr int kHeads = 2;
constexpr int kHeadDim = 16;
constexpr int kPageSize = 64;
constexpr int kPages = kMaxRows;

BackendLimits Limits() {
  return {.max_rows = kMaxRows,
          .max_seqs = kMaxRows,
          .max_context = kPageSize,
          .max_logit_rows = kMaxRows,
          .page_size = kPageSize,
          .hidden_size = kHidden,
          .vocab_size = kVocab,
          .products = {{3 * kHeads * kHeadDim, kHidden},
                       {kHidden, kHeads * kHeadDim},
                       {kVocab, kHidden}},
          .attention = {{.q_heads = kHeads, .kv_heads = kHeads, .head_dim = kHeadDim}}};
}

// One attention layer with an output layer, which uses every op; each row is a sequence of its own.
class TinyModel {
 public:
  // `does_at_once`: queries are prepared and keys and values appended by one op.
  static absl::StatusOr<std::unique_ptr<TinyModel>> Create(Backend* backend,
                                                           bool does_at_once = true) {
    std::unique_ptr<TinyModel> model(new TinyModel(backend, does_at_once));
    if (absl::Status status = backend->Prepare(Limits()); !status.ok()) return status;
    model->Allocate();
    if (!model->status_.ok()) return model->status_;
    return model;
  }

  // Row i decodes the token behind `position` others, which is ids[i].
  absl::StatusOr<std::vector<SampledToken>> Step(const std::vector<int32_t>& ids, int position) {
    const int n = static_cast<int>(ids.size());
    Upload(ids, token_ids_);
    Upload(std::vector<int32_t>(n, position), positions_);
    Upload(std::vector<int32_t>(n, position + 1), kv_lens_);
    std::vector<int32_t> slots(n), order(n), offsets(n + 1);
    for (int i = 0; i < n; ++i) slots[i] = i * kPageSize + position;
    for (int i = 0; i < n; ++i) order[i] = n - 1 - i;
    for (int i = 0; i <= n; ++i) offsets[i] = i;
    Upload(slots, slots_);
    Upload(order, order_);
    Upload(offsets, q_offsets_);
    host_offsets_ = offsets;
    host_lens_.assign(n, position + 1);
    backend_.Run(n, [&] { Ops(n); });
    std::vector<SampleRow> rows(n);
    for (int i = 0; i < n; ++i) rows[i] = {.temperature = 1, .seed = 3, .counter = 5, .num_top = 2};
    std::vector<SampledToken> tokens(n);
    backend_.Sample({.logits = logits_.view().Rows(0, n), .rows = rows, .tokens = tokens});
    if (absl::Status status = backend_.Synchronize(); !status.ok()) return status;
    return tokens;
  }

 private:
  TinyModel(Backend* backend, bool does_at_once)
      : backend_(*backend), does_at_once_(does_at_once) {}

  Tensor Make(std::vector<int64_t> shape, DType dtype) {
    absl::StatusOr<Tensor> tensor = backend_.Allocate(shape, dtype);
    if (tensor.ok()) return *std::move(tensor);
    status_.Update(tensor.status());
    return {};
  }
  Tensor Place(const Tensor& host) {
    const TensorView& view = host.view();
    Tensor tensor = Make({view.shape.data(), view.shape.data() + view.rank}, view.dtype);
    if (status_.ok()) backend_.Upload(view, tensor.view());
    return tensor;
  }
  void Upload(const std::vector<int32_t>& values, const Tensor& to) {
    backend_.Upload(TensorView::Of<int32_t>(values), to.view().Rows(0, std::ssize(values)));
  }

  void Allocate() {
    constexpr int64_t kWidth = kHeads * kHeadDim;
    table_ = Place(Random({kVocab, kHidden}, DType::kBf16, 1));
    w_qkv_ = Place(Random({3 * kWidth, kHidden}, DType::kBf16, 2, 0.1));
    b_qkv_ = Place(Random({3 * kWidth}, DType::kF32, 3));
    w_o_ = Place(Random({kHidden, kWidth}, DType::kBf16, 4, 0.1));
    gain_ = Place(Random({kHidden}, DType::kF32, 5));
    inv_freq_ = Place(Random({kHeadDim / 2}, DType::kF64, 6));
    std::vector<int32_t> pages(kPages);
    for (int i = 0; i < kPages; ++i) pages[i] = i;
    pages_ = Place(Ints(pages));
    for (Tensor* ints : {&token_ids_, &positions_, &slots_, &order_, &kv_lens_}) {
      *ints = Make({kMaxRows}, DType::kI32);
    }
    q_offsets_ = Make({kMaxRows + 1}, DType::kI32);
    residual_ = Make({kMaxRows, kHidden}, DType::kF32);
    normed_ = Make({kMaxRows, kHidden}, DType::kBf16);
    delta_ = Make({kMaxRows, kHidden}, DType::kBf16);
    cos_sin_ = Make({kMaxRows, kHeadDim}, DType::kF32);
    qkv_ = Make({kMaxRows, 3 * kWidth}, DType::kBf16);
    attended_ = Make({kMaxRows, kWidth}, DType::kBf16);
    logits_ = Make({kMaxRows, kVocab}, DType::kF32);
    keys_ = Make({kPages, kHeads, kPageSize, kHeadDim}, DType::kBf16);
    values_ = Make({kPages, kHeads, kPageSize, kHeadDim}, DType::kBf16);
  }

  // Views live here alone: a graph must not need them later.
  void Ops(int n) {
    const auto rows = [n](const Tensor& tensor) { return tensor.view().Rows(0, n); };
    constexpr int64_t kWidth = kHeads * kHeadDim;
    const PagedKvView kv{.spec = {.key_heads = kHeads, .value_heads = kHeads, .head_dim = kHeadDim},
                         .page_size = kPageSize,
                         .keys = keys_.view(),
                         .values = values_.view()};
    backend_.ComputeRope(
        {.positions = rows(positions_), .inv_freq = inv_freq_.view(), .out = rows(cos_sin_)});
    backend_.Embed({.table = table_.view(), .ids = rows(token_ids_), .out = rows(residual_)});
    backend_.RmsNorm(
        {.x = rows(residual_), .gain = gain_.view(), .eps = 1e-5f, .out = rows(normed_)});
    std::array<Projection, 3> projections;
    for (int i = 0; i < 3; ++i) {
      projections[i] = {.w = w_qkv_.view().Rows(i * kWidth, kWidth),
                        .bias = b_qkv_.view().Rows(i * kWidth, kWidth),
                        .out = rows(qkv_).Columns(i * kWidth, kWidth)};
    }
    backend_.MatMul({.x = rows(normed_), .projections = projections});
    const TensorView q = projections[0].out.Split(kHeads);
    const PrepareQueriesArgs queries{.q = q, .cos_sin = rows(cos_sin_)};
    const AppendKvArgs append{.k = projections[1].out.Split(kHeads),
                              .v = projections[2].out.Split(kHeads),
                              .slots = rows(slots_),
                              .cos_sin = rows(cos_sin_),
                              .kv = kv};
    if (does_at_once_) {
      backend_.PrepareAndAppend({.queries = queries, .kv = append});
    } else {
      backend_.PrepareQueries(queries);
      backend_.AppendKv(append);
    }
    backend_.PagedAttention({.q = q,
                             .q_offsets = q_offsets_.view().Rows(0, n + 1),
                             .kv_lens = rows(kv_lens_),
                             .page_table = pages_.view().Rows(0, n).Reshape({n, 1}),
                             .host_q_offsets = host_offsets_,
                             .host_kv_lens = host_lens_,
                             .kv = kv,
                             .kv_heads = kHeads,
                             .scale = 0.25,
                             .out = rows(attended_).Split(kHeads)});
    backend_.MatMul(rows(attended_), {.w = w_o_.view(), .out = rows(delta_)});
    backend_.AddRmsNorm({.delta = rows(delta_),
                         .residual = rows(residual_),
                         .gain = gain_.view(),
                         .eps = 1e-5f,
                         .out = rows(normed_)});
    backend_.GatedActivation({.gate = rows(normed_), .up = rows(delta_), .out = rows(normed_)});
    backend_.GatherRows({.x = rows(normed_), .rows = rows(order_), .out = rows(delta_)});
    backend_.MatMul(rows(delta_), {.w = table_.view(), .out = rows(logits_)});
  }

  Backend& backend_;
  const bool does_at_once_;
  absl::Status status_;
  Tensor table_, w_qkv_, b_qkv_, w_o_, gain_, inv_freq_, pages_;
  Tensor token_ids_, positions_, slots_, order_, kv_lens_, q_offsets_;
  Tensor residual_, normed_, delta_, cos_sin_, qkv_, attended_, logits_, keys_, values_;
  std::vector<int32_t> host_offsets_, host_lens_;
};

class BackendRunTest : public ::testing::Test {
 protected:
  BackendRunTest() { simt::ResetMachine(); }
  ~BackendRunTest() override {
    simt::FailCall(-1, cudaSuccess);
    simt::FailKernel(-1, cudaSuccess);
    simt::HideCublas(false);
    EXPECT_EQ(simt::NumLiveObjects(), 0);
  }

  static std::vector<int32_t> Ids(int n, int position) {
    std::vector<int32_t> ids(n);
    for (int i = 0; i < n; ++i) ids[i] = (7 * i + 11 * position + 3) % kVocab;
    return ids;
  }
  // The bytes of every token that `num_steps` steps of n rows draw.
  static absl::StatusOr<std::string> Drawn(const CudaOptions& options, int n, int num_steps,
                                           bool does_at_once = true) {
    auto backend = cuda::CreateCudaBackend(options);
    if (!backend.ok()) return backend.status();
    auto model = TinyModel::Create(backend->get(), does_at_once);
    if (!model.ok()) return model.status();
    std::string drawn;
    for (int position = 0; position < num_steps; ++position) {
      const auto tokens = (*model)->Step(Ids(n, position), position);
      if (!tokens.ok()) return tokens.status();
      for (const SampledToken& token : *tokens) {
        drawn.append(reinterpret_cast<const char*>(&token), offsetof(SampledToken, top_ids));
      }
    }
    return drawn;
  }
};

TEST_F(BackendRunTest, ReplayedStepsEqualEagerOnes) {
  for (const int n : {1, 3, 16}) {
    CudaOptions options = kTestedCuda;
    const auto replayed = Drawn(options, n, 6);
    options.max_graphs = 0;
    const auto eager = Drawn(options, n, 6);
    ASSERT_TRUE(eager.ok() && replayed.ok());
    EXPECT_EQ(*eager, *replayed) << n << " rows";
  }
}

TEST_F(BackendRunTest, QueriesAndAppendAtOnceSaveAKernelAndChangeNoBit) {
  const auto at_once = Drawn(kTestedCuda, 3, 4);
  const int64_t kernels = simt::NumKernels();
  const auto apart = Drawn(kTestedCuda, 3, 4, /*does_at_once=*/false);
  ASSERT_TRUE(at_once.ok() && apart.ok());
  EXPECT_EQ(*at_once, *apart);
  EXPECT_EQ(simt::NumKernels() - kernels, kernels + 4);
}

TEST_F(BackendRunTest, ErrorsNameTheirOpWhereEveryOpIsWaitedFor) {
  CudaOptions options = kTestedCuda;
  options.synchronous = true;
  const auto backend = MakeCuda(options);
  const auto model = TinyModel::Create(backend.get()).value();
  simt::FailKernel(3, cudaErrorIllegalAddress);
  EXPECT_THAT(std::string(model->Step({1}, 0).status().message()),
              HasSubstr("RmsNorm: cudaErrorIllegalAddress"));
}

TEST_F(BackendRunTest, EachNumberOfRowsHasItsGraphAndStepsAllocateNothing) {
  const auto backend = MakeCuda();
  const auto model = TinyModel::Create(backend.get()).value();
  const BackendCounters start = backend->counters();
  const int64_t device_bytes = simt::DeviceBytesInUse();
  EXPECT_GE(device_bytes, backend->PlannedBytes(Limits())->scratch);
  for (int position = 0; position < 5; ++position) {
    for (const int n : {2, 16, 4}) ASSERT_TRUE(model->Step(Ids(n, position), position).ok());
  }
  const BackendCounters end = backend->counters();
  EXPECT_EQ(end.graphs, 3);
  EXPECT_EQ(end.eager_runs, 6);
  EXPECT_EQ(end.graph_replays, 9);
  EXPECT_EQ(end.allocations, start.allocations);
  EXPECT_EQ(simt::DeviceBytesInUse(), device_bytes);
}

TEST_F(BackendRunTest, PreparingTakesWhatIsPlannedWithOrWithoutTheDevice) {
  const auto backend = MakeCuda();
  const int64_t before = simt::DeviceBytesInUse();
  const CudaDeviceInfo device = *cuda::DescribeDevice(0);
  for (const int rows : {kMaxRows, 2 * kMaxRows}) {
    BackendLimits limits = Limits();
    limits.max_rows = limits.max_seqs = rows;
    limits.num_layers = rows;
    const BackendBytes planned = *cuda::PlannedBytes(limits, kTestedCuda, device);
    EXPECT_EQ(backend->PlannedBytes(limits)->scratch, planned.scratch);
    ASSERT_TRUE(backend->Prepare(limits).ok());
    EXPECT_EQ(simt::DeviceBytesInUse() - before, planned.scratch);
    // Sizes 1, 2, 4, 8, 16 (24, 32) of at least ten kernels a layer.
    EXPECT_GT(planned.graphs, (rows == kMaxRows ? 5 : 7) * rows * 10 * (64 << 10));
  }
}

TEST_F(BackendRunTest, PreparingAnewForgetsGraphsOfTheOldMemory) {
  const auto backend = MakeCuda();
  const auto model = TinyModel::Create(backend.get()).value();
  std::vector<SampledToken> first;
  for (int i = 0; i < 3; ++i) first = model->Step({1, 2}, 0).value();
  EXPECT_EQ(backend->counters().graph_replays, 1);
  ASSERT_TRUE(backend->Prepare(Limits()).ok());
  EXPECT_EQ(model->Step({1, 2}, 0)->front().token_id, first.front().token_id);
  EXPECT_EQ(backend->counters().graph_replays, 1);
}

TEST_F(BackendRunTest, SearchingForAlgorithmsHappensOncePerShape) {
  CudaOptions options = kTestedCuda;
  options.search_products = true;
  const auto backend = MakeCuda(options);
  const auto model = TinyModel::Create(backend.get()).value();
  std::vector<int64_t> calls;
  for (int i = 0; i < 4; ++i) {
    const int64_t before = simt::NumCalls();
    ASSERT_TRUE(model->Step(Ids(16, 0), 0).ok());
    calls.push_back(simt::NumCalls() - before);
  }
  // Three shapes, three candidates, a few timed runs each; then only uploads and the graph.
  EXPECT_GT(calls[0], calls[1] + 3 * 3 * 3);
  EXPECT_EQ(calls[2], calls[3]);
}

// Wherever a call fails there is no crash, and either an error or the right result.
TEST_F(BackendRunTest, AFailureOfAnyCallIsReportedOrHarmless) {
  constexpr int kRows = 9;  // beyond the skinny kernel
  constexpr int kSteps = 3;
  for (const bool search : {false, true}) {
    CudaOptions options = kTestedCuda;
    options.search_products = search;
    const int64_t before = simt::NumCalls();
    const auto expected = Drawn(options, kRows, kSteps);
    ASSERT_TRUE(expected.ok());
    const int64_t num_calls = simt::NumCalls() - before;
    int num_harmless = 0;
    for (int64_t call = 1; call <= num_calls; ++call) {
      SCOPED_TRACE(call);
      simt::FailCall(call, cudaErrorUnknown);
      const auto drawn = Drawn(options, kRows, kSteps);
      simt::FailCall(-1, cudaSuccess);
      ASSERT_EQ(simt::NumLiveObjects(), 0);
      if (!drawn.ok()) {
        EXPECT_TRUE(absl::IsInternal(drawn.status()) || absl::IsUnavailable(drawn.status()))
            << drawn.status();
        continue;
      }
      ++num_harmless;
      // A search that lost a candidate may round differently.
      if (!search) {
        EXPECT_EQ(*drawn, *expected);
      }
    }
    // Freeing, and candidates that are left out.
    EXPECT_LT(num_harmless, num_calls / 3);
  }
}

TEST_F(BackendRunTest, AFailedKernelIsReported) {
  const int64_t before = simt::NumKernels();
  ASSERT_TRUE(Drawn(kTestedCuda, 2, 4).ok());
  const int64_t num_kernels = simt::NumKernels() - before;
  ASSERT_GT(num_kernels, 40);
  for (int64_t kernel = 1; kernel <= num_kernels; ++kernel) {
    SCOPED_TRACE(kernel);
    simt::FailKernel(kernel, cudaErrorIllegalAddress);
    const absl::Status status = Drawn(kTestedCuda, 2, 4).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorIllegalAddress"));
    simt::ResetMachine();
  }
}

TEST_F(BackendRunTest, MissingCublasIsNamed) {
  simt::HideCublas(true);
  const absl::Status status = cuda::CreateCudaBackend(kTestedCuda).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no cuBLASLt, looked for libcublasLt.so.13"));
}

}  // namespace
}  // namespace mea
