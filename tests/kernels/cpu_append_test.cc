// The writing of the cache by the CPU back end: tokens that share a tile of keys are stored
// together, and must leave what they leave one by one.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "kernels/paged_kv.h"
#include "tests/kernels/op_support.h"

namespace mea {
namespace {

constexpr int kAppendHeads = 2;
constexpr int kAppendPageSize = 32;
constexpr int kAppendPages = 3;

struct AppendCase {
  std::string target;
  DType dtype;
  int head_dim;
};

void PrintTo(const AppendCase& c, std::ostream* out) {
  *out << c.target << " " << DTypeName(c.dtype) << " d=" << c.head_dim;
}

// Keys or values of one layer; every byte is 0x5a before they are written.
Tensor Slabs(const AppendCase& c) {
  const int64_t slab = kAppendPageSize * KvHeadBytes(c.head_dim, c.dtype) / DTypeSize(c.dtype);
  const Tensor memory = Allocate({kAppendPages, kAppendHeads, slab}, c.dtype);
  std::memset(memory.view().data, 0x5a, memory.view().num_elements() * DTypeSize(c.dtype));
  TensorView view = memory.view();
  view.rank = 4;
  view.shape = {kAppendPages, kAppendHeads, kAppendPageSize, c.head_dim};
  view.stride = {kAppendHeads * slab, slab, KvHeadElements(c.head_dim, c.dtype), 1};
  return Tensor(view, std::make_shared<Tensor>(memory));
}

std::string BytesOf(const AppendCase& c, const Tensor& slabs) {
  return {static_cast<const char*>(slabs.view().data),
          static_cast<size_t>(kAppendPages * kAppendHeads * kAppendPageSize *
                              KvHeadBytes(c.head_dim, c.dtype))};
}

class CpuAppendTest : public ::testing::TestWithParam<AppendCase> {
 protected:
  // The bytes of keys, values and queries after calls with `at_a_time` tokens each.
  struct Result {
    std::string keys, values, queries;
  };
  Result Append(const std::vector<int32_t>& slots, int64_t at_a_time, bool both) const {
    const AppendCase& c = GetParam();
    const auto backend = MakeCpu(c.target);
    const auto count = std::ssize(slots);
    const Tensor q = Random({count, 3, c.head_dim}, DType::kF32, 1);
    const Tensor k = Random({count, kAppendHeads, c.head_dim}, DType::kF32, 2);
    const Tensor v = Random({count, kAppendHeads, c.head_dim}, DType::kF32, 3);
    k.view().row<float>(1)[1] = std::numeric_limits<float>::quiet_NaN();
    v.view().row<float>(2)[0] = std::numeric_limits<float>::infinity();
    const Tensor cos_sin = Random({count, c.head_dim}, DType::kF32, 4);
    const Tensor slot_ids = Ints(slots);
    const Tensor keys = Slabs(c), values = Slabs(c);
    const KvSpec spec = {.key_heads = kAppendHeads,
                         .value_heads = kAppendHeads,
                         .head_dim = c.head_dim,
                         .dtype = c.dtype};
    for (int64_t i = 0; i < count; i += at_a_time) {
      const int64_t rows = std::min(at_a_time, count - i);
      const PrepareQueriesArgs queries{.q = q.view().Rows(i, rows),
                                       .cos_sin = cos_sin.view().Rows(i, rows)};
      const AppendKvArgs append{.k = k.view().Rows(i, rows),
                                .v = v.view().Rows(i, rows),
                                .slots = slot_ids.view().Rows(i, rows),
                                .cos_sin = queries.cos_sin,
                                .kv = {.spec = spec,
                                       .page_size = kAppendPageSize,
                                       .keys = keys.view(),
                                       .values = values.view()}};
      if (both) {
        backend->PrepareAndAppend({.queries = queries, .kv = append});
      } else {
        backend->PrepareQueries(queries);
        backend->AppendKv(append);
      }
    }
    return {.keys = BytesOf(c, keys),
            .values = BytesOf(c, values),
            .queries = {reinterpret_cast<const char*>(q.view().data),
                        static_cast<size_t>(q.view().num_elements()) * sizeof(float)}};
  }
};

// A page from its middle into another one, a gap, a token that is not stored, backwards, and a
// whole tile behind an odd token.
std::vector<int32_t> SlotsOfSeveralRuns() {
  std::vector<int32_t> slots;
  for (int t = 3; t < kAppendPageSize; ++t) slots.push_back(2 * kAppendPageSize + t);
  for (int t = 0; t < 5; ++t) slots.push_back(t);
  for (const int slot : {9, -1, 10, 13, 12, 2 * kAppendPageSize}) slots.push_back(slot);
  for (int t = 15; t < kAppendPageSize; ++t) slots.push_back(kAppendPageSize + t);
  return slots;
}

TEST_P(CpuAppendTest, TokensTogetherAreStoredAsOneByOne) {
  const std::vector<int32_t> slots = SlotsOfSeveralRuns();
  const Result one_by_one = Append(slots, 1, false);
  for (const int64_t at_a_time : {2, 7, 16, 1000}) {
    SCOPED_TRACE(at_a_time);
    for (const bool both : {false, true}) {
      const Result together = Append(slots, at_a_time, both);
      EXPECT_TRUE(together.keys == one_by_one.keys);
      EXPECT_TRUE(together.values == one_by_one.values);
      EXPECT_TRUE(together.queries == one_by_one.queries);
    }
  }
}

TEST_P(CpuAppendTest, ATokenWithoutASlotLeavesTheCacheAsItIs) {
  const Result nothing = Append({-1, -1, -1}, 3, true);
  EXPECT_EQ(nothing.keys.find_first_not_of('\x5a'), std::string::npos);
  EXPECT_EQ(nothing.values.find_first_not_of('\x5a'), std::string::npos);
}

std::vector<AppendCase> AppendCases() {
  std::vector<AppendCase> cases;
  for (const std::string& target : CpuTargets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
      for (const int head_dim : {8, 24, 64, 80, 128}) {
        cases.push_back({.target = target, .dtype = dtype, .head_dim = head_dim});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Formats, CpuAppendTest, ::testing::ValuesIn(AppendCases()));

}  // namespace
}  // namespace mea
