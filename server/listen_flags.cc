#include "server/listen_flags.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/address.h"
#include "server/server.h"

namespace mea {
namespace {

absl::Status CheckAddress(std::string_view flag, const std::string& text) {
  if (text.empty()) return absl::OkStatus();  // it is off
  const absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) return OfFlag(flag, address.status());
  const absl::Status status = CheckBindable(*address);
  return status.ok() ? status : OfFlag(flag, status);
}

}  // namespace

absl::Status OfFlag(std::string_view flag, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(flag.data(), " ", std::string(status.message())));
}

absl::Status Server::CheckAddresses(const ServerOptions& options) {
  if (options.listen.empty() && options.http.empty() && options.admin.empty()) {
    return absl::InvalidArgumentError("--listen, --http and --admin are all off");
  }
  for (const auto& [flag, text] : {std::pair(kListenFlag, options.listen),
                                   {kAdminFlag, options.admin},
                                   {kHttpFlag, options.http}}) {
    MEA_RETURN_IF_ERROR(CheckAddress(flag, text));
  }
  return absl::OkStatus();
}

}  // namespace mea
