#include "server/supervisor.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr char kSocketVariable[] = "NOTIFY_SOCKET";

}  // namespace

absl::Status TellSupervisor(std::string_view state) {
  const char* variable = std::getenv(kSocketVariable);
  if (variable == nullptr) return absl::OkStatus();
  const std::string_view name = variable;
  sockaddr_un address{.sun_family = AF_UNIX};
  if (name.empty() || (name[0] != '/' && name[0] != '@') ||
      name.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(
        absl::StrCat(kSocketVariable, " '", variable, "' is not the path of a socket"));
  }
  name.copy(address.sun_path, name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const ssize_t sent = socket < 0 ? -1
                                  : sendto(socket, state.data(), state.size(), MSG_NOSIGNAL,
                                           reinterpret_cast<const sockaddr*>(&address), size);
  const int error = errno;
  if (socket >= 0) close(socket);
  if (sent >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, absl::StrCat(kSocketVariable, " '", variable, "'"));
}

}  // namespace mea
