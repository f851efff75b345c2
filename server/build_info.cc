#include "server/build_info.h"

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mea {

std::string Version() { return MEA_VERSION; }

std::string Build() { return absl::StrCat("g++ ", __VERSION__, ", ", MEA_BUILD_TYPE); }

std::string DeviceName(int num_threads) {
  std::string processor = "of unknown make";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!absl::StartsWith(line, "model name")) continue;
    if (const size_t colon = line.find(": "); colon != line.npos)
      processor = line.substr(colon + 2);
    break;
  }
  return absl::StrCat("CPU ", processor, ", ", num_threads,
                      num_threads == 1 ? " thread" : " threads");
}

}  // namespace mea
