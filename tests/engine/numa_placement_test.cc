#include "engine/numa_placement.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/numa.h"
#include "kernels/tensor.h"
#include "kernels/topology.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

// One thread on node 0, three on node 3.
ThreadPlan OneAndThree() {
  ThreadPlan plan = AnyThreads(4);
  for (int i = 1; i < 4; ++i) plan.threads[i] = {.cluster = 1, .node = 3, .cpus = {}};
  return plan;
}

class NumaPlacementTest : public ::testing::Test {
 protected:
  void Load(const testing::RandomCheckpointSpec& spec, std::optional<DType> dtype) {
    testing::WriteRandomCheckpoint(dir_.path(), spec, 7);
    checkpoint_ = OpenCheckpoint(dir_.path());
    weights_ = LoadWeights(*checkpoint_, {.weight_dtype = dtype}).value();
    MoveRowsToNodes(checkpoint_->config, weights_, OneAndThree(),
                    [&](const void* data, int64_t bytes, int node) {
                      for (int64_t i = 0; i < bytes; ++i) {
                        const bool is_new =
                            node_of_.emplace(static_cast<const char*>(data) + i, node).second;
                        EXPECT_TRUE(is_new);
                      }
                    });
  }
  // The node of every row.
  std::string NodesOf(const TensorView& matrix) const {
    std::string nodes;
    const int64_t row_bytes = matrix.stride[0] * DTypeSize(matrix.dtype);
    for (int64_t row = 0; row < matrix.shape[0]; ++row) {
      const char* const data = static_cast<const char*>(matrix.data) + row * row_bytes;
      const int node = node_of_.at(data);
      for (int64_t i = 0; i < row_bytes; ++i) EXPECT_EQ(node_of_.at(data + i), node);
      nodes += std::to_string(node);
    }
    return nodes;
  }

  const testing::TempDir dir_;
  absl::StatusOr<Checkpoint> checkpoint_ = absl::UnknownError("not opened");
  ModelWeights weights_;
  std::map<const char*, int> node_of_;
};

TEST_F(NumaPlacementTest, AClusterOwnsItsShareOfTheRowsOfAProduct) {
  for (const std::optional<DType> dtype :
       {std::optional<DType>(), std::optional<DType>(DType::kI8)}) {
    node_of_.clear();
    Load({}, dtype);  // hidden 32, 4 heads of 8 for queries, 2 for keys and values; 48; 64
    const LayerWeights& layer = weights_.layers[1];
    EXPECT_EQ(NodesOf(weights_.embedding), std::string(16, '0') + std::string(48, '3'));
    EXPECT_EQ(NodesOf(layer.q_proj), std::string(16, '0') + std::string(16, '3'));
    EXPECT_EQ(NodesOf(layer.k_proj), std::string(16, '3'));
    EXPECT_EQ(NodesOf(layer.v_proj), std::string(16, '3'));
    EXPECT_EQ(NodesOf(layer.gate_proj), std::string(24, '0') + std::string(24, '3'));
    EXPECT_EQ(NodesOf(layer.up_proj), std::string(48, '3'));
    EXPECT_EQ(NodesOf(layer.down_proj), std::string(8, '0') + std::string(24, '3'));
    EXPECT_FALSE(node_of_.contains(static_cast<const char*>(layer.input_norm.data)));
  }
}

TEST_F(NumaPlacementTest, ExpertsAreCoveredToo) {
  Load({.base_model_type = "mixtral"}, std::nullopt);
  for (const Expert& expert : weights_.layers[0].experts) {
    for (const TensorView& matrix : {expert.gate, expert.up, expert.down}) NodesOf(matrix);
  }
}

TEST_F(NumaPlacementTest, OtherPoliciesAreRefused) {
  EXPECT_EQ(*ParseNumaPolicy("off"), NumaPolicy::kOff);
  EXPECT_EQ(*ParseNumaPolicy("interleave"), NumaPolicy::kInterleave);
  EXPECT_EQ(*ParseNumaPolicy("local"), NumaPolicy::kLocal);
  EXPECT_EQ(std::string(ParseNumaPolicy("mirror").status().message()),
            "--numa \"mirror\" is none of off, interleave, local");
}

// On this machine's nodes: whether the kernel moves pages or not, what they hold stays.
TEST(NumaTest, PagesThatMoveKeepWhatTheyHold) {
  const Tensor tensor = Tensor::AllocateHost(std::array{int64_t{6} << 20}, DType::kI8).value();
  const auto values = tensor.view().values<int8_t>();
  std::memset(values.data(), 5, values.size());
  for (const int node : ReadTopology().memory_nodes) {
    MovePages(values.data() + 1, std::ssize(values) - 2, node);
  }
  MovePages(values.data() + 1, 100, 0);  // no whole page
  EXPECT_EQ(std::count(values.begin(), values.end(), 5), std::ssize(values));
}

}  // namespace
}  // namespace mea
