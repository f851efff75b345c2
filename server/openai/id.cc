#include "server/openai/id.h"

#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/str_format.h"

namespace mea::openai {

std::string RandomHex24() {
  thread_local absl::BitGen bits;
  return absl::StrFormat("%016x%08x", absl::Uniform<uint64_t>(bits), absl::Uniform<uint32_t>(bits));
}

}  // namespace mea::openai
