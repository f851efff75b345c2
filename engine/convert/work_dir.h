#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/convert/compose.h"
#include "engine/convert/convert.h"
#include "engine/convert/layer_weights.h"

namespace mea::convert {

// OUT.partial: the finished parts of a conversion, for one process at a time.
//   manifest.json          what is being converted, and how; nobody else's results are ever used
//   layer-3.keys-4.solved  compositions
//   layer-3.healed         what healing made of a layer
//   measured.json          losses by name
//   checkpoint/            the output while it is written; renamed to OUT at the end
class WorkDir {
 public:
  // `manifest` is a JSON object. A directory with a different one is refused, naming the field.
  static absl::StatusOr<std::unique_ptr<WorkDir>> Open(const std::filesystem::path& out,
                                                       const std::string& manifest);
  ~WorkDir();
  WorkDir(const WorkDir&) = delete;
  WorkDir& operator=(const WorkDir&) = delete;

  // Absent if there is none that can be read.
  std::optional<KeyComposition> LoadKeys(int layer, int heads) const;
  std::optional<ValueComposition> LoadValues(int layer, int heads) const;
  absl::Status Save(int layer, const KeyComposition& keys) const;
  absl::Status Save(int layer, const ValueComposition& values) const;
  std::optional<HealedWeights> LoadHealed(int layer) const;
  absl::Status Save(int layer, const HealedWeights& healed) const;

  std::optional<double> Measured(const std::string& name) const;
  absl::Status SaveMeasured(const std::string& name, double value);

  // An empty directory for the checkpoint.
  absl::StatusOr<std::filesystem::path> NewCheckpointDir() const;
  // Gives the checkpoint its final name and removes the rest.
  absl::Status Publish();
  // Removes everything: there is nothing to publish.
  void Remove();

 private:
  WorkDir(std::filesystem::path out, int lock) : out_(std::move(out)), lock_(lock) {}
  std::filesystem::path dir() const;
  std::filesystem::path HealedFile(int layer) const;
  std::filesystem::path SolvedFile(int layer, const char* kind, int heads) const;

  const std::filesystem::path out_;
  int lock_;  // a descriptor of the directory, locked
  std::vector<std::pair<std::string, double>> measured_;
};

}  // namespace mea::convert
