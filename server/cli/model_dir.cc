#include "server/cli/model_dir.h"

#include <string>

#include "engine/checkpoint/hub_cache.h"

namespace mea {

CLI::Validator CheckpointDir() {
  const auto transform = [](std::string& dir) -> std::string {
    const auto snapshot = SnapshotOf(dir);
    if (!snapshot.ok()) return std::string(snapshot.status().message());
    dir = snapshot->string();
    return "";
  };
  return CLI::Validator(transform, "");
}

}  // namespace mea
