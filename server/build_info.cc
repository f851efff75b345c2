#include "server/build_info.h"

#include "absl/strings/str_cat.h"
#include "kernels/machine.h"

namespace mea {

std::string Build() { return absl::StrCat("g++ ", __VERSION__, ", ", MEA_BUILD_TYPE); }

std::string DeviceName(int num_threads) {
  return absl::StrCat("CPU ", ProcessorName(), ", ", num_threads,
                      num_threads == 1 ? " thread" : " threads");
}

}  // namespace mea
