#pragma once

#include <vector>

#include "engine/config/config.h"
#include "engine/family/family.h"
#include "engine/storage/field_reader.h"

namespace mea {

// How a model uses its window.
struct WindowUse {
  bool is_used = true;
  int default_window = 0;            // where sliding_window is absent; 0: none
  std::vector<bool> sliding_layers;  // where layer_types is absent; empty: all
  bool layer_types_decides = false;  // else it has to agree
};

// config.layer_windows, from sliding_window and layer_types.
void ReadWindows(FieldReader& in, const WindowUse& use, ModelConfig& config);

// The same by a family's rule; nothing for WindowRule::kOwn.
void ReadWindows(FieldReader& in, const Family& family, ModelConfig& config);

}  // namespace mea
