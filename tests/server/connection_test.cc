// Connections that ask often whether the server is still there.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "server/address.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

// A connection that speaks just enough HTTP/2 (RFC 9113) to ping as often as it likes: gRPC's own
// clients hold themselves to a ping a second.
class RawHttp2 {
 public:
  explicit RawHttp2(const std::string& server) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const auto address = ParseAddress(server);
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(static_cast<uint16_t>(address->port));
    inet_pton(AF_INET, address->host.c_str(), &peer.sin_addr);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)), 0);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, ""));
  }
  ~RawHttp2() { close(fd_); }

  void Ping() { Send(Frame(kPing, "12345678")); }

  // The type of the next frame that is an answer to a ping or the end of the connection.
  uint8_t NextAnswer() {
    for (;;) {
      const std::string head = Receive(kHeadBytes);
      if (head.empty()) return kGoAway;  // closed
      const auto byte = [&](int i) { return static_cast<uint8_t>(head[i]); };
      Receive(static_cast<size_t>(byte(0)) << 16 | byte(1) << 8 | byte(2));
      constexpr uint8_t kAck = 1;
      if (byte(3) == kGoAway || (byte(3) == kPing && byte(4) == kAck)) return byte(3);
    }
  }

  static constexpr uint8_t kSettings = 4, kPing = 6, kGoAway = 7;

 private:
  static constexpr size_t kHeadBytes = 9;

  static std::string Frame(uint8_t type, const std::string& payload) {
    std::string frame(kHeadBytes, '\0');  // no flags, stream 0
    frame[2] = static_cast<char>(payload.size());
    frame[3] = static_cast<char>(type);
    return frame + payload;
  }
  void Send(const std::string& bytes) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
  }
  std::string Receive(size_t count) {
    std::string bytes(count, '\0');
    return recv(fd_, bytes.data(), count, MSG_WAITALL) == std::ssize(bytes) ? bytes : "";
  }

  const int fd_;
};

// A server that counts strikes answers the fourth of them with GOAWAY, "too_many_pings", which
// would end every call of the connection.
TEST(ConnectionTest, PingsAreAnsweredHoweverOftenTheyCome) {
  ServerFixture f;
  RawHttp2 connection(f.server->listen_address());
  for (int i = 0; i < 50; ++i) {
    connection.Ping();
    ASSERT_EQ(connection.NextAnswer(), RawHttp2::kPing) << i;
  }
}

TEST(ConnectionTest, LongUnaryCallSurvivesTheKeepaliveOfItsClient) {
  ServerFixture f({.automatic = false});
  f.engine.SetAnswer("hello");
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      f.server->listen_address(), grpc::InsecureChannelCredentials(), arguments));
  std::thread slow_engine([&] {
    ASSERT_TRUE(f.engine.AwaitSubmitted(1));
    absl::SleepFor(absl::Milliseconds(1500));
    f.engine.Step(6);
  });
  v1::GenerateResponse response;
  const grpc::Status status = stub->Generate(f.Context().get(), TextRequest("hey"), &response);
  slow_engine.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.completions(0).text(), "hello");
}

}  // namespace
}  // namespace mea::testing
