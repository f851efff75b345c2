#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/paged_kv.h"

namespace mea {

// A way to store a cache, as --kv-dtype names it.
struct KvFormat {
  std::string name;
  KvDTypes dtype;
};

// "int8,k=int8,v=int4" is two formats: a pair is one. INVALID_ARGUMENT for one that ParseKvDType
// does not know, or for none.
absl::StatusOr<std::vector<KvFormat>> ParseKvFormats(std::string_view list);

// What a user may choose instead of BF16 to save bytes, largest first.
std::vector<KvFormat> CompactKvFormats();

}  // namespace mea
