// Row ops of the reference against numbers that do not come from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/op_support.h"

namespace mea {
namespace {

using ::testing::DoubleNear;
using ::testing::Pointwise;

Tensor Wide(std::initializer_list<int64_t> shape, const std::vector<double>& values) {
  const Tensor tensor = Allocate(shape, DType::kF64);
  std::copy(values.begin(), values.end(), tensor.view().as<double>());
  return tensor;
}

Tensor Gain(const std::vector<float>& values) {
  const Tensor tensor = Allocate({static_cast<int64_t>(values.size())}, DType::kF32);
  std::copy(values.begin(), values.end(), tensor.view().as<float>());
  return tensor;
}

void ExpectNear(const Tensor& actual, const std::vector<double>& expected) {
  EXPECT_THAT(ToDoubles(actual.view()), Pointwise(DoubleNear(1e-9), expected));
}

class ReferenceRowwiseTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = CreateReferenceBackend();
};

TEST_F(ReferenceRowwiseTest, GeluTanhIsWhatOthersComputeNotTheExactGelu) {
  const Tensor gate = Wide({1, 5}, {-3.0, -1.0, 0.0, 1.0, 3.0});
  const Tensor up = Wide({1, 5}, {1.0, 2.0, 1.0, 1.0, -1.0});
  backend_->GatedActivation({.gate = gate.view(),
                             .up = up.view(),
                             .activation = Activation::kGeluTanh,
                             .out = gate.view()});
  // torch.nn.functional.gelu(x, approximate="tanh") in float64; the exact one has 0.8413447 at 1.
  ExpectNear(gate, {-0.0036373920817729943, 2 * -0.15880800939172324, 0.0, 0.8411919906082768,
                    -2.996362607918227});
}

TEST_F(ReferenceRowwiseTest, AddRmsNormNormsTheDeltaThenScalesItThenNormsTheSum) {
  const Tensor delta = Wide({1, 2}, {3.0, 4.0});  // mean square 12.5
  const Tensor delta_gain = Gain({2.0f, 1.0f});
  const Tensor residual = Wide({1, 2}, {1.0, -1.0});
  const Tensor out = Poisoned({1, 2}, DType::kF64);
  const AddRmsNormArgs args{.delta = delta.view(),
                            .delta_gain = delta_gain.view(),
                            .delta_scale = 0.5f,
                            .residual = residual.view(),
                            .eps = 3.5f,
                            .out = out.view()};
  backend_->AddRmsNorm(args);
  // sqrt(12.5 + 3.5) = 4: the normed delta is (2 * 3 / 4, 4 / 4), half of it is added.
  ExpectNear(residual, {1.75, -0.5});
  ExpectNear(out, {1.75, -0.5});
}

TEST_F(ReferenceRowwiseTest, NormRowsTakesTheWholeRowAndMayOverwriteIt) {
  const Tensor x = Wide({2, 4}, {3.0, 4.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0});
  const Tensor gain = Gain({1.0f, 2.0f, 4.0f, 8.0f});
  backend_->NormRows({.x = x.view(), .gain = gain.view(), .eps = 3.5f, .out = x.view()});
  ExpectNear(x, {0.75, 2.0, 3.0, 8.0, 0.0, 0.0, 0.0, 0.0});
}

TEST_F(ReferenceRowwiseTest, EmbedScalesWhatItLooksUp) {
  const Tensor table = Gain({1.0f, -2.0f, 3.0f, 0.5f});
  const Tensor ids = Ints({1, 0});
  const Tensor out = Poisoned({2, 2}, DType::kF64);
  backend_->Embed(
      {.table = table.view().Reshape({2, 2}), .ids = ids.view(), .scale = 4.0f, .out = out.view()});
  ExpectNear(out, {12.0, 2.0, 4.0, -8.0});
}

}  // namespace
}  // namespace mea
