// The header of a weights file, and tensors where it says they are.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "engine/storage/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) return -1;
  auto file = mea::MappedFile::Open(path);
  if (!file.ok()) return 0;
  const auto tensors = mea::ReadSafeTensorsHeader(*file);
  if (!tensors.ok()) {
    mea::fuzz::Require(!tensors.status().message().empty(), "a refusal says why");
    return 0;
  }
  for (const mea::StoredTensor& tensor : *tensors) {
    const int64_t end = tensor.offset + tensor.num_bytes;
    mea::fuzz::Require(tensor.offset >= 0 && tensor.num_bytes >= 0 && end <= (*file)->size(),
                       "a tensor lies in its file");
    if (mea::LoadableDType(tensor.dtype)) {
      mea::fuzz::Require(mea::MapTensor(tensor).ok(), "a tensor of a loadable dtype maps");
    }
  }
  return 0;
}
