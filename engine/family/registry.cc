#include <array>

#include "absl/strings/str_cat.h"
#include "engine/family/families.h"

namespace mea {
namespace {

constexpr std::array<const Family*, 12> kFamilies = {
    &kLlama,  &kMistral, &kMixtral, &kQwen2,   &kQwen3, &kQwen3Moe,
    &kGemma3, &kPhi3,    &kSmolLm3, &kGranite, &kOlmo2, &kOlmo3,
};

}  // namespace

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
