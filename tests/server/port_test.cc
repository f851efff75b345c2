// The gRPC port when descriptors are short, and the watch over ports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "absl/time/clock.h"
#include "server/address.h"
#include "server/descriptors.h"
#include "server/open_connections.h"
#include "server/port_watch.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using Health = grpc::health::v1::HealthCheckResponse;

// The process may open descriptors below `limit` alone while this lives.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit lower = {limit, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &lower), 0);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

constexpr rlim_t kNoMore = 3;  // 0, 1 and 2 are taken

// Whether the server speaks, as gRPC does, and does not close at once. Waits for either.
bool IsServed(RawClient& client) {
  constexpr std::string_view kSettingsBegin("\0\0", 2);
  return !client.ReadUntil(kSettingsBegin).empty();
}

// As somebody does who comes anew.
Health::ServingStatus HealthOverANewConnection(const ServerFixture& f) {
  const auto context = f.Context();
  context->set_wait_for_ready(true);
  Health response;
  const grpc::Status status =
      grpc::health::v1::Health::NewStub(f.NewChannel())->Check(context.get(), {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.status();
}

void AwaitHealth(const ServerFixture& f, Health::ServingStatus status) {
  for (int i = 0; i < 1000 && f.Health() != status; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(f.Health(), status);
}

TEST(PortTest, ConnectionsAreAcceptedAgainAfterDescriptorsWereShort) {
  ServerFixture f;
  std::vector<RawClient> clients(8);
  {
    const DescriptorLimit none(kNoMore);
    for (RawClient& client : clients) client.Connect(f.server->listen_address());
    absl::SleepFor(absl::Milliseconds(50));  // until they have been tried
  }
  for (RawClient& client : clients) EXPECT_TRUE(IsServed(client));
  EXPECT_EQ(HealthOverANewConnection(f), Health::SERVING);
  EXPECT_THAT(f.StopAndReadLog(),
              Contains(HasSubstr(" warning grpc message=\"cannot accept connections on ")));
}

TEST(PortTest, MoreConnectionsThanDescriptorsAllowAreClosedAndOthersTakeTheirPlaces) {
  std::optional<DescriptorLimit> few(
      150);  // at the start: later this process holds the clients too
  ServerFixture f;
  few.reset();
  const int room = ConnectionLimitsOf(150)->grpc;
  std::vector<RawClient> clients(room + 20);
  int num_served = 0;
  for (RawClient& client : clients) {
    client.Connect(f.server->listen_address());
    num_served += IsServed(client);
  }
  EXPECT_LE(num_served, room);
  EXPECT_GT(num_served, room / 2);
  clients.clear();
  EXPECT_EQ(HealthOverANewConnection(f), Health::SERVING);
  EXPECT_THAT(f.StopAndReadLog(), Contains(HasSubstr(" connections of 127.0.0.1:")));
}

TEST(PortTest, ServerThatCannotReachItsPortsIsNotServingAndSaysSo) {
  ServerFixture f({}, false, {.port_timeout = absl::Milliseconds(100)});
  EXPECT_EQ(f.Health(), Health::SERVING);
  {
    const DescriptorLimit none(kNoMore);
    AwaitHealth(f, Health::NOT_SERVING);
    for (int i = 0; i < 1000 && f.server->health().ok(); ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_THAT(std::string(f.server->health().message()), HasSubstr("Too many open files"));
  }
  AwaitHealth(f, Health::SERVING);
  EXPECT_TRUE(f.server->health().ok());
  EXPECT_THAT(f.StopAndReadLog(), Contains(HasSubstr(" error port silent message=")));
}

TEST(PortWatchTest, PortThatIsOpenAndAnsweredByNobodyIsSilent) {
  Address deaf{"127.0.0.1", 0};
  const absl::StatusOr<int> listener = Listen(deaf);
  ASSERT_TRUE(listener.ok());
  ServerFixture f;
  const PortWatch watch(
      {*ParseAddress(f.server->listen_address()), *ParseAddress(f.server->http_address()), deaf},
      absl::Milliseconds(1));
  for (int i = 0; i < 1000 && watch.silence().problem.empty(); ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(watch.silence().problem, deaf.ToString() + ": no answer");
  EXPECT_GT(watch.silence().time, absl::ZeroDuration());
  close(*listener);
}

TEST(OpenConnectionsTest, ClosedOnesMakeRoom) {
  OpenConnections connections(2);
  int first[2], second[2];
  ASSERT_EQ(pipe(first), 0);
  ASSERT_EQ(pipe(second), 0);
  EXPECT_TRUE(connections.Add(first[0]));
  EXPECT_TRUE(connections.Add(first[1]));
  EXPECT_FALSE(connections.Add(second[0]));
  close(first[1]);
  bool added = false;
  for (int i = 0; i < 1000 && !added; ++i) {
    added = connections.Add(second[0]);
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(added);
  EXPECT_FALSE(connections.Add(second[1]));
  for (const int fd : {first[0], second[0], second[1]}) close(fd);
}

TEST(DescriptorsTest, NoPortTakesWhatAnotherNeeds) {
  EXPECT_TRUE(absl::IsFailedPrecondition(ConnectionLimitsOf(95).status()));
  for (const int64_t limit : {96, 1024, 1 << 20}) {
    const auto limits = ConnectionLimitsOf(limit);
    ASSERT_TRUE(limits.ok());
    EXPECT_GT(limits->admin, 0);
    EXPECT_GT(limits->grpc, 0);
    EXPECT_LE(limits->grpc + limits->http + limits->admin + 64, limit);
  }
  EXPECT_EQ(ConnectionLimitsOf(1 << 20)->grpc, 4096);
}

}  // namespace
}  // namespace mea::testing
