#include <array>

#include "engine/family/families.h"

namespace mea {
namespace {

constexpr std::array<std::string_view, 1> kPhiFields = {"partial_rotary_factor"};

}  // namespace

// Phi-3, Phi-3.5 and Phi-4-mini: the projections of one product are one tensor. Partial rotation
// and LongRoPE are read with RoPE.
const Family kPhi3 = {.name = "phi3",
                      .layers = {.qkv_proj = "qkv_proj", .gate_up_proj = "gate_up_proj"},
                      .default_max_position = 4096,
                      .default_eps = 1e-5,
                      .may_be_long_rope = true,
                      .window = WindowRule::kEveryLayer,
                      .default_window = 0,
                      .own_fields = kPhiFields};

}  // namespace mea
