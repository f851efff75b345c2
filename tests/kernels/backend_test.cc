// The door of every op: the checks, and then the observer.
#include "kernels/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <set>
#include <string>

#include "tests/kernels/op_support.h"

namespace mea {
namespace {

using ::testing::ElementsAre;

// Calls every op of the reference once, of two tokens and one head of two elements.
class EveryOp {
 public:
  explicit EveryOp(Backend& backend) : backend_(backend) {}

  void Call() {
    const TensorView ids = Keep(Ints({0, 1}));
    const TensorView offsets = Keep(Ints({0, 2}));
    const TensorView length = Keep(Ints({2}));
    const TensorView page = Keep(Ints({0})).Reshape({1, 1});
    const TensorView gain = Wide32({2});
    const TensorView mix = Wide32({1, 1});
    const TensorView matrix = Rows();
    const TensorView cos_sin = Rows();
    backend_.Upload(matrix, Rows());
    backend_.Download(matrix, Rows());
    backend_.Copy({.from = matrix, .to = Rows()});
    backend_.Receive({.sender = &backend_, .from = matrix, .to = Rows()});
    backend_.Embed({.table = Wide32({2, 2}), .ids = ids, .out = Rows()});
    backend_.RmsNorm({.x = matrix, .gain = gain, .out = Rows()});
    backend_.AddRmsNorm({.delta = Rows(), .residual = matrix, .gain = gain, .out = Rows()});
    backend_.NormRows({.x = matrix, .gain = gain, .out = Rows()});
    backend_.MatMul(matrix, {.w = Wide32({2, 2}), .out = Rows()});
    backend_.GatedActivation({.gate = matrix, .up = Rows(), .out = Rows()});
    backend_.SigmoidGate({.gate = matrix, .up = Rows(), .out = Rows()});
    backend_.MixHeads({.x = Rows().Split(1), .mix = mix, .out = Rows().Split(1)});
    backend_.GatherRows({.x = matrix, .rows = ids, .out = Rows()});
    const Expert expert{.gate = Wide32({2, 2}), .up = Wide32({2, 2}), .down = Wide32({2, 2})};
    backend_.Moe({.x = matrix,
                  .router = Wide32({1, 2}),
                  .experts = std::span(&expert, 1),
                  .top_k = 1,
                  .inner = Rows(),
                  .rows = Rows(),
                  .out = Rows()});
    const std::vector<double> inv_freq = {1.0};
    backend_.ComputeRope(
        {.positions = ids, .inv_freq = TensorView::Of<double>(inv_freq), .out = cos_sin});

    const PagedKvView kv{
        .spec = {.key_heads = 1, .value_heads = 1, .head_dim = 2, .dtype = DType::kF64},
        .page_size = 2,
        .keys = Rows().Reshape({1, 1, 2, 2}),
        .values = Rows().Reshape({1, 1, 2, 2})};
    const PrepareQueriesArgs queries{.q = Rows().Split(1), .cos_sin = cos_sin};
    const AppendKvArgs append{
        .k = Rows().Split(1), .v = Rows().Split(1), .slots = ids, .cos_sin = cos_sin, .kv = kv};
    backend_.PrepareQueries(queries);
    backend_.AppendKv(append);
    backend_.PrepareAndAppend({.queries = queries, .kv = append});
    PagedAttentionArgs attention{.q = queries.q,
                                 .q_offsets = offsets,
                                 .kv_lens = length,
                                 .page_table = page,
                                 .kv = kv,
                                 .kv_heads = 1,
                                 .out = Rows().Split(1)};
    backend_.PagedAttention(attention);
    attention.mix = {.key = mix, .value = mix};
    backend_.InterleavedAttention(
        {.paged = attention, .pseudo_heads = 1, .rotations = cos_sin.Rows(0, 1)});

    const std::array<SampleRow, 2> rows = {};
    std::array<SampledToken, 2> tokens;
    backend_.Sample({.logits = matrix, .rows = rows, .tokens = tokens});
    const std::array<int32_t, 2> targets = {0, 1};
    std::array<float, 2> logprobs;
    backend_.TokenLogprobs({.logits = matrix, .targets = targets, .logprobs = logprobs});
  }

 private:
  TensorView Keep(Tensor tensor) { return kept_.emplace_back(std::move(tensor)).view(); }
  TensorView Rows() { return Keep(Random({2, 2}, DType::kF64, kept_.size())); }
  TensorView Wide32(std::initializer_list<int64_t> shape) {
    return Keep(Random(shape, DType::kF32, kept_.size()));
  }

  Backend& backend_;
  std::deque<Tensor> kept_;
};

struct Seen {
  std::set<std::string> names;
  std::set<size_t> kinds;  // indices of OpArgs
  int waits = 0;
};

// Notes what it sees, and that the costs of what it sees can be told.
class Notes final : public OpObserver {
 public:
  explicit Notes(Seen* seen) : seen_(*seen) {}
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    EXPECT_TRUE(seen_.names.insert(std::string(call.name)).second) << call.name << " twice";
    seen_.kinds.insert(call.args.index());
    run();
    const OpCost cost =
        std::visit([&](const auto* args) { return Cost(*args, call.dtypes); }, call.args);
    EXPECT_GE(cost.bytes, 0);
  }
  absl::Status OnWait(absl::FunctionRef<absl::Status()> wait) override {
    ++seen_.waits;
    return wait();
  }

 private:
  Seen& seen_;
};

TEST(BackendTest, AnObserverSeesEveryOpOnceAndEveryWait) {
  const auto backend = CreateReferenceBackend();
  Seen seen;
  backend->set_observer(std::make_unique<Notes>(&seen));
  EveryOp(*backend).Call();
  EXPECT_EQ(seen.kinds.size(), std::variant_size_v<OpArgs>);
  EXPECT_EQ(seen.names.size(), std::variant_size_v<OpArgs> + 2);  // copies have three names
  EXPECT_TRUE(backend->WaitEvent(backend->RecordEvent()).ok());
  EXPECT_TRUE(backend->Synchronize().ok());
  EXPECT_EQ(seen.waits, 2);
  backend->set_observer(nullptr);
  EXPECT_TRUE(backend->Synchronize().ok());
  EXPECT_EQ(seen.waits, 2);
}

class Nothing final : public OpObserver {
  void OnOp(const OpCall& /*call*/, absl::FunctionRef<void()> /*run*/) override {}
  absl::Status OnWait(absl::FunctionRef<absl::Status()> /*wait*/) override {
    return absl::InternalError("lost");
  }
};

TEST(BackendTest, AnObserverMayLeaveAnOpOutAndFailAWait) {
  const auto backend = CreateReferenceBackend();
  backend->set_observer(std::make_unique<Nothing>());
  const Tensor x = Ints({1, 2});
  const Tensor to = Ints({7, 7});
  backend->Copy({.from = x.view(), .to = to.view()});
  EXPECT_THAT(to.view().values<int32_t>(), ElementsAre(7, 7));
  EXPECT_EQ(backend->Synchronize(), absl::InternalError("lost"));
  EXPECT_EQ(backend->WaitEvent(0), absl::InternalError("lost"));
}

TEST(BackendDeathTest, ArgumentsAreCheckedBeforeAnyoneSeesThem) {
  const auto backend = CreateReferenceBackend();
  backend->set_observer(std::make_unique<Nothing>());
  const Tensor gate = Allocate({2, 3}, DType::kF64);
  const Tensor narrow = Allocate({2, 2}, DType::kF64);
  EXPECT_DEATH(
      backend->GatedActivation({.gate = gate.view(), .up = narrow.view(), .out = gate.view()}),
      "HasShape");
  EXPECT_DEATH(backend->Copy({.from = gate.view(), .to = narrow.view()}), "shape");
}

TEST(BackendDeathTest, NormsCheckTheGainsThatAreThere) {
  const auto backend = CreateReferenceBackend();
  const Tensor rows = Allocate({2, 3}, DType::kF64);
  const TensorView x = rows.view();
  const Tensor two = Allocate({2}, DType::kF32);
  EXPECT_DEATH(backend->RmsNorm({.x = x, .gain = two.view(), .out = x}), "HasShape");
  EXPECT_DEATH(backend->AddRmsNorm({.delta = x, .delta_gain = two.view(), .residual = x, .out = x}),
               "HasShape");
  EXPECT_DEATH(backend->NormRows({.x = x, .gain = two.view(), .out = x}), "HasShape");
  EXPECT_DEATH(backend->NormRows({.x = x, .out = x}), "gain.empty");
}

}  // namespace
}  // namespace mea
