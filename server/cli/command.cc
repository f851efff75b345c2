#include "server/cli/command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr char kExitCodePayload[] = "mea/exit_code";

}  // namespace

absl::Status WithExitCode(absl::Status status, int code) {
  status.SetPayload(kExitCodePayload, absl::Cord(absl::StrCat(code)));
  return status;
}

int ExitCodeOf(const absl::Status& status) {
  int code = kFailure;
  if (const auto payload = status.GetPayload(kExitCodePayload)) {
    if (!absl::SimpleAtoi(std::string(*payload), &code)) return kFailure;
  }
  return code;
}

absl::Status FlushOutput() {
  if (std::fflush(stdout) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot write the output: ", std::strerror(errno)));
  }
  if (std::ferror(stdout) == 0) return absl::OkStatus();
  return absl::UnavailableError("cannot write all of the output");
}

}  // namespace mea
