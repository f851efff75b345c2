#include "engine/eval/kv_formats.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/load.h"
#include "kernels/status_macros.h"

namespace mea {

absl::StatusOr<std::vector<KvFormat>> ParseKvFormats(std::string_view list) {
  std::vector<std::string> names;
  for (const auto part : absl::StrSplit(absl::string_view(list.data(), list.size()), ',')) {
    const bool completes = absl::StartsWith(part, "v=") && !names.empty() &&
                           absl::StartsWith(names.back(), "k=") &&
                           !absl::StrContains(names.back(), ',');
    if (completes) {
      absl::StrAppend(&names.back(), ",", part);
    } else {
      names.emplace_back(part);
    }
  }
  std::vector<KvFormat> formats;
  for (const std::string& name : names) {
    MEA_ASSIGN_OR_RETURN(const auto dtype, ParseKvDType(name));
    formats.push_back({name, dtype});
  }
  return formats;
}

std::vector<KvFormat> CompactKvFormats() {
  std::vector<KvFormat> formats;
  for (const KvDTypes dtypes :
       {KvDTypes(DType::kI8), KvDTypes(DType::kI8, DType::kI4), KvDTypes(DType::kI4)}) {
    formats.push_back({KvDTypesName(dtypes), dtypes});
  }
  return formats;
}

}  // namespace mea
