// Many connections, and more than there are file descriptors.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/http/http_fixture.h"

namespace mea::testing {
namespace {

// Sets the bound on file descriptors for as long as it lives.
class FileLimit {
 public:
  explicit FileLimit(rlim_t limit) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit now{.rlim_cur = std::min(limit, before_.rlim_max), .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &now);
  }
  ~FileLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

int64_t ResidentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

TEST(HttpConnectionsTest, AThousandOpenStreamsCostLittleAndAllAreServed) {
  constexpr int kStreams = 1000;
  FileLimit limit(8192);
  HttpFixture f;
  std::vector<RawClient> clients;
  std::vector<std::shared_ptr<TestCall>> calls;
  clients.reserve(kStreams);
  const int64_t before = ResidentBytes();
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(f.Connect());
    ASSERT_TRUE(clients.back().Send(kGetCall));
    calls.push_back(f.AwaitCall());
    ASSERT_NE(calls.back(), nullptr);
    calls.back()->exchange->Begin({.content_type = "text/event-stream"});
    calls.back()->exchange->Write("data: first\n\n");
  }
  for (const auto& call : calls) ASSERT_TRUE(call->AwaitWritten(1));
  const int64_t per_stream = (ResidentBytes() - before) / kStreams;
  RecordProperty("bytes_per_stream", static_cast<int>(per_stream));
  EXPECT_LT(per_stream, 50 << 10);  // both ends, without the kernel's

  EXPECT_EQ(f.Connect().Ask(kGetHello).body, "hello");
  for (const auto& call : calls) {
    call->exchange->Write("data: second\n\n");
    call->exchange->End();
  }
  for (RawClient& client : clients) {
    ASSERT_EQ(client.Read().body, "data: first\n\ndata: second\n\n");
  }
}

TEST(HttpConnectionsTest, ShortageOfFileDescriptorsPassesAndIsToldOnce) {
  HttpFixture f;
  RawClient served = f.Connect();
  EXPECT_EQ(served.Ask(kGetHello).code, 200);
  RawClient waiting;  // has its descriptor; the server will get none
  {
    FileLimit limit(3);
    waiting.Connect(f.server->address());
    ASSERT_TRUE(waiting.Send(kGetHello));
    while (f.warnings().empty()) absl::SleepFor(absl::Milliseconds(5));
    absl::SleepFor(absl::Milliseconds(250));  // it tries again and again
    EXPECT_EQ(served.Ask(kGetHello).code, 200);
  }
  EXPECT_EQ(waiting.Read().body, "hello");
  ASSERT_EQ(f.warnings().size(), 1u);
  EXPECT_EQ(f.warnings()[0],
            "cannot accept connections on " + f.server->address() + ": Too many open files");
}

}  // namespace
}  // namespace mea::testing
