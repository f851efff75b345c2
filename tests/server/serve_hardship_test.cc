// `mea serve` as a process that others make it hard for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "server/library_log.h"
#include "tests/server/raw_http2.h"
#include "tests/server/serve_process.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// More lines than its pipe takes: nobody waits for them, not even the end.
TEST(ServeHardshipTest, LogThatNobodyReadsHoldsNothingUp) {
  Process serve = Serve("127.0.0.1:0", {"--log-level", "trace"});
  const auto stub = v1::Inference::NewStub(Connect(serve.ReadLine()));
  LibraryLog::Silence();  // the client's own complaint
  v1::GenerateRequest request = TextRequest("hey");
  request.set_model("\xff");
  for (int i = 0; i < 2000; ++i) {
    v1::GenerateResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Generate(&context, request, &response);
    ASSERT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << i;
  }
  serve.Signal(SIGTERM);
  EXPECT_EQ(serve.Wait(), 0);
}

TEST(ServeHardshipTest, ReaderOfTheLogMayGo) {
  Process serve = Serve("127.0.0.1:0", {});
  const auto stub = v1::Inference::NewStub(Connect(serve.ReadLine()));
  serve.CloseErrors();
  for (int i = 0; i < 3; ++i) {
    v1::GenerateResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Generate(&context, TextRequest("Once", 2), &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  serve.Signal(SIGTERM);
  EXPECT_EQ(serve.Wait(), 0);
}

TEST(ServeHardshipTest, PortsThatCannotBeReachedForLongEndItWithAStatusOfItsOwn) {
  Process serve = Serve("127.0.0.1:0", {"--stall-timeout", "1"});
  ASSERT_NE(serve.ReadLine(), "");
  serve.AllowNoMoreDescriptors();
  EXPECT_THAT(serve.ReadErrors(), AllOf(HasSubstr(" error port silent message="),
                                        HasSubstr("nobody answers on a port of ours: 127.0.0.1:")));
  EXPECT_EQ(serve.Wait(), 4);
}

// As a debugger, a suspended container or a hypervisor does it: whoever asks right afterwards is
// served.
TEST(ServeHardshipTest, StoppedProcessHasNotStalled) {
  Process serve = Serve("127.0.0.1:0", {"--stall-timeout", "1"});
  const auto stub = v1::Inference::NewStub(Connect(serve.ReadLine()));
  for (int i = 0; i < 3; ++i) {
    serve.Signal(SIGSTOP);
    absl::SleepFor(absl::Seconds(2));
    serve.Signal(SIGCONT);
    for (int tries = 0; tries < 20; ++tries) {
      v1::GenerateResponse response;
      grpc::ClientContext context;
      const grpc::Status status = stub->Generate(&context, TextRequest("Once", 2), &response);
      ASSERT_TRUE(status.ok()) << i << ", " << tries << ": " << status.error_message();
      absl::SleepFor(absl::Milliseconds(25));  // looks come every quarter of a second
    }
  }
  serve.Signal(SIGTERM);
  EXPECT_EQ(serve.Wait(), 0);
  EXPECT_THAT(serve.ReadErrors(), Not(HasSubstr("stalled")));
}

// HTTP/2's rapid reset: calls that end before they are looked at cost a client nothing.
TEST(ServeHardshipTest, MemoryThatAFloodOfResetsTookGoesBack) {
  // A small cache, whose pages do not come meanwhile.
  Process serve = Serve("127.0.0.1:0", {"--log-level", "off", "--kv-cache-bytes", "1MiB"});
  const std::string ready = serve.ReadLine();
  const auto stub = v1::Control::NewStub(Connect(ready));
  const auto answers = [&] {
    v1::GetLoadResponse load;
    grpc::ClientContext context;
    return stub->GetLoad(&context, {}, &load).ok();
  };
  EXPECT_TRUE(answers());
  const int64_t before = serve.ResidentBytes();
  for (int i = 0; i < 4; ++i) {
    RawHttp2 connection(ListenAddress(ready));
    for (uint32_t call = 0; call < 15'000; ++call) {
      connection.StartAndReset(2 * call + 1, "/mea.v1.Inference/Generate");
    }
    EXPECT_TRUE(answers());
  }
  constexpr int64_t kSlack = 64 << 20;
  for (int i = 0; i < 600 && serve.ResidentBytes() > before + kSlack; ++i) {
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_LT(serve.ResidentBytes(), before + kSlack);
  serve.Signal(SIGTERM);
  EXPECT_EQ(serve.Wait(), 0);
}

}  // namespace
}  // namespace mea::testing
