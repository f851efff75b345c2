#pragma once

#include <cstdint>
#include <string_view>

namespace mea {

enum class PackedMethod : uint8_t { kGptq, kAwq };

// How a checkpoint packs matrices into integers of 4 bits: `quantization_config` of config.json. An
// element is scale * (q - zero), with a scale and a zero for each group along its row. Which
// matrices are packed, the tensors tell (engine/weights/packed_matrix.h).
struct PackedFormat {
  PackedMethod method = PackedMethod::kGptq;
  int group_size = 128;  // 0: a whole row
  int zero_offset = 0;   // of a zero from what is stored

  bool operator==(const PackedFormat&) const = default;
};

constexpr std::string_view PackedMethodName(PackedMethod method) {
  return method == PackedMethod::kGptq ? "gptq" : "awq";
}

}  // namespace mea
