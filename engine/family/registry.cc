#include <array>

#include "absl/strings/str_cat.h"
#include "engine/family/families.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

constexpr std::array<const Family*, 11> kFamilies = {
    &kLlama,  &kMistral, &kMixtral, &kQwen2,   &kQwen3, &kQwen3Moe,
    &kGemma3, &kPhi3,    &kSmolLm3, &kGranite, &kOlmo2,
};

}  // namespace

std::vector<bool> ReadSlidingLayers(FieldReader& in, int num_layers,
                                    const std::vector<bool>& by_default) {
  const nlohmann::json* types = in.Get("layer_types");
  if (types == nullptr) return by_default;
  std::vector<bool> sliding;
  if (!types->is_array() || static_cast<int>(types->size()) != num_layers) {
    in.RefuseValue("layer_types",
                   absl::StrCat("a list of num_hidden_layers = ", num_layers, " names"), *types);
    return by_default;
  }
  for (int layer = 0; layer < num_layers; ++layer) {
    const nlohmann::json& type = (*types)[layer];
    sliding.push_back(type == "sliding_attention");
    if (!sliding.back() && type != "full_attention") {
      in.RefuseValue(absl::StrCat("layer_types[", layer, "]"),
                     "\"full_attention\" or \"sliding_attention\"", type);
    }
  }
  return sliding;
}

const Family* FindFamily(std::string_view name) {
  for (const Family* family : kFamilies) {
    if (family->name == name) return family;
  }
  return nullptr;
}

std::string FamilyNames() {
  std::string names;
  for (const Family* family : kFamilies) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(family->name));
  }
  return names;
}

}  // namespace mea
