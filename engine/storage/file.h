#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/storage/files.h"
#include "engine/storage/lost_pages.h"

namespace mea {

// A regular file mapped read-only for the lifetime of this object. Truncating the file meanwhile
// ends the process at the next access (lost_pages.h): replace a checkpoint by renaming, never in
// place.
class MappedFile {
 public:
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  int64_t size() const { return size_; }  // bytes
  const std::string& path() const { return path_; }

  // Starts reading bytes [first, first + count), or up to the end, without waiting.
  void ReadAhead(int64_t first, int64_t count) const;
  // Reads bytes [first, first + count) into memory now rather than at first use.
  void Prefault(int64_t first, int64_t count) const;

 private:
  MappedFile(std::string path, const char* data, int64_t size)
      : path_(std::move(path)), data_(data), size_(size) {
    if (size_ > 0) ListMappedFile(data_, size_, path_.c_str());
  }

  std::string path_;
  const char* data_;
  int64_t size_;
};

}  // namespace mea
