#include "server/supervisor.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mea {
namespace {

// What systemd is to a service: a socket whose name is in the environment.
class SupervisorTest : public ::testing::Test {
 protected:
  ~SupervisorTest() override {
    unsetenv("NOTIFY_SOCKET");
    close(socket_);
  }

  // `name` as systemd writes it: a path, or @ before an abstract name.
  void Listen(const std::string& name) {
    sockaddr_un address{.sun_family = AF_UNIX};
    ASSERT_LT(name.size(), sizeof address.sun_path);
    name.copy(address.sun_path, name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    ASSERT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }

  std::string Received() {
    char text[64];
    const ssize_t size = recv(socket_, text, sizeof text, MSG_DONTWAIT);
    return size < 0 ? "nothing" : std::string(text, static_cast<size_t>(size));
  }

 private:
  const int socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

TEST_F(SupervisorTest, WithoutASocketNothingIsSaid) {
  EXPECT_EQ(TellSupervisor("READY=1"), absl::OkStatus());
}

TEST_F(SupervisorTest, ASocketWithAPathIsTold) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/notify", getpid());
  Listen(path);
  EXPECT_EQ(TellSupervisor("READY=1"), absl::OkStatus());
  EXPECT_EQ(Received(), "READY=1");
  std::filesystem::remove(path);
}

TEST_F(SupervisorTest, ASocketWithAnAbstractNameIsTold) {
  Listen(absl::StrCat("@mea/notify", getpid()));
  EXPECT_EQ(TellSupervisor("STOPPING=1"), absl::OkStatus());
  EXPECT_EQ(Received(), "STOPPING=1");
}

TEST_F(SupervisorTest, WhatIsNoSocketIsNamed) {
  for (const std::string& name : {std::string(), std::string("vsock:1:2"),
                                  "/" + std::string(200, 'x'), std::string("/gone")}) {
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    EXPECT_THAT(std::string(TellSupervisor("READY=1").message()),
                ::testing::StartsWith(absl::StrCat("NOTIFY_SOCKET '", name, "'")));
  }
}

}  // namespace
}  // namespace mea
