#include "tests/engine/damage.h"

#include <gtest/gtest.h>

#include <string>

namespace mea::testing {
namespace {

struct DamageCase {
  std::string name;
  std::string backend;
  DType kv_dtype;
};
void PrintTo(const DamageCase& c, std::ostream* out) { *out << c.name; }

class DamageTest : public ::testing::TestWithParam<DamageCase> {
 protected:
  HarnessOptions Options() const {
    return {.backend = GetParam().backend, .kv_dtype = GetParam().kv_dtype};
  }
};

TEST_P(DamageTest, ADamagedPromptEndsAlone) {
  ExpectADamagedPromptEndsAlone({}, Options());
  ExpectADamagedPromptEndsAlone({.window = 20, .plain = true}, Options());
  ExpectADamagedPromptEndsAlone({.num_experts = 4}, Options());
}

TEST_P(DamageTest, ADamagedDrawEndsAlone) { ExpectADamagedDrawEndsAlone({}, Options()); }

INSTANTIATE_TEST_SUITE_P(All, DamageTest,
                         ::testing::Values(DamageCase{"ReferenceF64", "reference", DType::kF64},
                                           DamageCase{"ReferenceInt8", "reference", DType::kI8},
                                           DamageCase{"CpuF32", "cpu", DType::kF32},
                                           DamageCase{"CpuBf16", "cpu", DType::kBf16},
                                           DamageCase{"CpuInt8", "cpu", DType::kI8}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace mea::testing
