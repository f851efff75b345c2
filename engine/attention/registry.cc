#include "engine/attention/registry.h"

#include <array>
#include <memory>

#include "engine/attention/iha.h"
#include "engine/attention/kha.h"
#include "engine/attention/mea.h"
#include "engine/storage/mismatch.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

struct Row {
  std::string_view kind;
  absl::StatusOr<std::shared_ptr<const AttentionVariant>> (*read)(FieldReader& in,
                                                                  ModelConfig& config);
};

constexpr std::array<Row, 3> kVariants = {{
    {"mea", MeaAttention::Read},
    {"kha", KhaAttention::Read},
    {"iha", IhaAttention::Read},
}};

}  // namespace

absl::Status ReadHeadComposition(FieldReader in, ModelConfig& config) {
  const std::string kind = in.String("kind");
  for (const Row& row : kVariants) {
    if (row.kind != kind) continue;
    MEA_ASSIGN_OR_RETURN(config.attention, row.read(in, config));
    config.composition = kind;
    return absl::OkStatus();
  }
  in.Refuse("kind", "one of mea, kha, iha", ShownName(kind));
  return in.status();
}

}  // namespace mea
