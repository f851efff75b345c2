#include "kernels/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace mea {
namespace {

// A set of nodes as the system calls take it: a bit for each, and the number of bits and one more.
class NodeMask {
 public:
  explicit NodeMask(std::span<const int> nodes) {
    for (const int node : nodes) {
      const size_t word = node / kBits;
      if (word >= words_.size()) words_.resize(word + 1);
      words_[word] |= 1ul << node % kBits;
    }
  }
  const unsigned long* words() const { return words_.data(); }
  unsigned long num_bits() const { return words_.size() * kBits + 1; }

 private:
  static constexpr int kBits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> words_ = std::vector<unsigned long>(1);
};

}  // namespace

absl::Status InterleaveNewPages(std::span<const int> nodes) {
  const NodeMask mask(nodes);
  if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask.words(), mask.num_bits()) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "--numa: set_mempolicy");
}

void MovePages(const void* data, int64_t bytes, int node) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin >= end) return;
  const NodeMask mask(std::span(&node, 1));
  syscall(SYS_mbind, begin, end - begin, MPOL_PREFERRED, mask.words(), mask.num_bits(),
          MPOL_MF_MOVE);
}

}  // namespace mea
