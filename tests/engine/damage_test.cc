#include "tests/engine/damage.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "kernels/backend.h"

namespace mea::testing {
namespace {

struct DamageCase {
  std::string name;
  std::string backend;
  KvDTypes kv_dtype;
};
void PrintTo(const DamageCase& c, std::ostream* out) { *out << c.name; }

// One element of one token's key or value.
struct Spot {
  int layer, num_layers, token;
  bool is_key;
  double value;
};

// Spoils it on its way into the cache. For one request.
class SpoiltToken final : public OpObserver {
 public:
  explicit SpoiltToken(const Spot& spot) : spot_(spot) {}
  void OnOp(const OpCall& call, absl::FunctionRef<void()> run) override {
    if (const auto* both = call.As<PrepareAndAppendArgs>()) Spoil(both->kv);
    run();
  }

 private:
  void Spoil(const AppendKvArgs& kv) {
    const int count = static_cast<int>(kv.k.shape[0]);
    const int row = spot_.token - num_tokens_;
    if (layer_ == spot_.layer && row >= 0 && row < count) {
      const TensorView x = (spot_.is_key ? kv.k : kv.v).Rows(row, 1);
      if (x.dtype == DType::kF64) {
        x.row<double>(0)[3] = spot_.value;
      } else {
        x.row<float>(0)[3] = static_cast<float>(spot_.value);
      }
    }
    if (++layer_ == spot_.num_layers) {
      layer_ = 0;
      num_tokens_ += count;
    }
  }

  const Spot spot_;
  int layer_ = 0;
  int num_tokens_ = 0;
};

class DamageTest : public ::testing::TestWithParam<DamageCase> {
 protected:
  HarnessOptions Options() const {
    return {.backend = GetParam().backend, .kv_dtype = GetParam().kv_dtype};
  }
  static std::unique_ptr<Backend> MakeBackend() {
    if (GetParam().backend == "reference") return CreateReferenceBackend();
    return CreateCpuBackend({.num_threads = 1}).value();
  }
};

TEST_P(DamageTest, ADamagedPromptEndsAlone) {
  ExpectADamagedPromptEndsAlone({}, Options());
  ExpectADamagedPromptEndsAlone({.window = 20, .plain = true}, Options());
  ExpectADamagedPromptEndsAlone({.num_experts = 4}, Options());
}

TEST_P(DamageTest, NoCacheHidesAKeyOrValueThatIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const RandomModelSpec spec;
  const int kPrompt = 40;
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const bool is_key : {true, false}) {
      for (const int layer : {0, spec.num_layers - 1}) {
        for (const int token : {0, 9, 25, kPrompt - 1, kPrompt + 3}) {
          SCOPED_TRACE(::testing::Message() << value << (is_key ? " key" : " value") << " of token "
                                            << token << " in layer " << layer);
          const auto backend = MakeBackend();
          backend->set_observer(std::make_unique<SpoiltToken>(Spot{.layer = layer,
                                                                   .num_layers = spec.num_layers,
                                                                   .token = token,
                                                                   .is_key = is_key,
                                                                   .value = value}));
          HarnessOptions options = Options();
          options.device = backend.get();
          options.max_batch_tokens = options.max_num_seqs = 16;
          EngineHarness harness(spec, options);
          const auto sink = harness.Run({HealthyRequest(8, kPrompt, 8, spec.vocab_size)}).front();
          ExpectInternal(*sink);
          EXPECT_EQ(sink->tokens.size(), token < kPrompt ? 0u : size_t(token - kPrompt + 1));
        }
      }
    }
  }
}

TEST_P(DamageTest, ADamagedDrawEndsAlone) { ExpectADamagedDrawEndsAlone({}, Options()); }

INSTANTIATE_TEST_SUITE_P(
    All, DamageTest,
    ::testing::Values(DamageCase{"ReferenceF64", "reference", DType::kF64},
                      DamageCase{"ReferenceInt8", "reference", DType::kI8},
                      DamageCase{"CpuF32", "cpu", DType::kF32},
                      DamageCase{"CpuBf16", "cpu", DType::kBf16},
                      DamageCase{"CpuInt8", "cpu", DType::kI8},
                      DamageCase{"CpuFormatsApart", "cpu", {DType::kI8, DType::kBf16}},
                      DamageCase{"ReferenceInt4", "reference", DType::kI4},
                      DamageCase{"CpuInt4", "cpu", DType::kI4}),
    [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace mea::testing
