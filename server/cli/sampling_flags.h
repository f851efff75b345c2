#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>

#include "mea/v1/inference.pb.h"

namespace mea {

inline constexpr char kSamplingGroup[] = "Sampling (default: what the model recommends)";

// The flags with which a person asks for more or less variety. What is not given is left to the
// server.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int> top_k;
  std::optional<uint64_t> seed;

  void AddTo(CLI::App& command);
  void Set(v1::SamplingParams& sampling) const;
};

}  // namespace mea
