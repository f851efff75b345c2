#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/storage/file.h"
#include "engine/weights/match_tensors.h"

namespace mea {

// The tensors that loading makes (rounded, converted, folded, reordered), in a file for the next
// start, which maps them instead. DIR/HASH.weights is
//   the manifest: the checkpoint's files, and every tensor with all that it is made from;
//   the tensors, behind zeros up to a page, each at a multiple of 64 bytes;
//   a checksum for each MiB of them.
// HASH is that of the manifest. A file of another size, with another manifest or a wrong checksum
// is not used. None of this is secure against forgery: who may write to DIR may change the model.
class WeightCache {
 public:
  // For these tasks of `list`. Without a directory, or where no matrix is made, there is no file.
  WeightCache(const LoadOptions& options, const TensorList& list, std::span<const LoadTask> tasks);

  bool has_file() const { return !file_.empty(); }
  const std::filesystem::path& file() const { return file_; }
  int64_t num_bytes() const { return num_bytes_; }  // of the tensors

  // The file, in memory and checked; NOT_FOUND where there is none. `report` is told of more bytes.
  absl::StatusOr<std::shared_ptr<const MappedFile>> Open(
      const std::function<void(int64_t)>& report) const;
  // Whether the file holds what this task makes: neither what is in place, nor what GPTQ or AWQ
  // packed.
  bool Holds(size_t index) const { return offsets_[index] >= 0; }
  // What that task made.
  Tensor TensorOf(size_t index, const std::shared_ptr<const MappedFile>& mapped) const;

  // Writes the file from the views of the tasks: whole, or not at all. Where another process is
  // just doing so, it is left to that.
  absl::Status Write() const;

 private:
  absl::Status WriteTo(class OutputFile& out) const;

  std::filesystem::path dir_, file_;
  std::span<const LoadTask> tasks_;
  std::string head_;              // the manifest and zeros
  std::vector<int64_t> offsets_;  // of each task, from the first tensor; -1: in no file
  int64_t num_bytes_ = 0;
};

}  // namespace mea
