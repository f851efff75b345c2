// Connections of hostile and unlucky clients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "server/limits.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/raw_http2.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// A server that counts strikes answers the fourth of them with GOAWAY, "too_many_pings", which
// would end every call of the connection.
TEST(ConnectionTest, PingsAreAnsweredHoweverOftenTheyCome) {
  ServerFixture f;
  RawHttp2 connection(f.server->listen_address());
  for (int i = 0; i < 50; ++i) {
    connection.Ping();
    ASSERT_EQ(connection.ReceiveOf(RawHttp2::kPing).flags, RawHttp2::kAck) << i;
  }
}

TEST(ConnectionTest, IdleConnectionsLeaveRoomForProbes) {
  ServerFixture f;
  const std::string ports[] = {f.server->listen_address(), f.server->http_address(),
                               f.server->admin_address()};
  std::vector<RawClient> idle(3 * 64);
  for (size_t i = 0; i < idle.size(); ++i) idle[i].Connect(ports[i % 3]);
  const auto context = f.Context();
  grpc::health::v1::HealthCheckResponse health;
  const auto stub = grpc::health::v1::Health::NewStub(f.NewChannel());
  EXPECT_TRUE(stub->Check(context.get(), {}, &health).ok());
  EXPECT_EQ(f.HttpGet("/health"), "SERVING\n");
  EXPECT_EQ(f.HttpGet("/health", nullptr, f.server->http_address()), "{\"status\":\"ok\"}");
}

// The server speaks first; a client that never does is let go after ten seconds.
TEST(ConnectionTest, ConnectionThatSaysNothingIsClosed) {
  ServerFixture f;
  RawClient client(f.server->listen_address());
  EXPECT_NE(client.ReadUntil("what nobody says"), "");
  EXPECT_TRUE(client.AtEnd());
}

// HTTP/2's rapid reset: calls that end before they are looked at cost a client nothing.
TEST(ConnectionTest, ClientThatResetsItsCallsUnreadIsCutOff) {
  ServerFixture f;
  for (const char* method :
       {"/mea.v1.Inference/Generate", "/mea.v1.Inference/GenerateStream",
        "/mea.v1.Inference/Tokenize", "/mea.v1.Control/GetLoad", "/mea.v1.Control/Nothing",
        "/vllm.grpc.engine.VllmEngine/Embed", "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch", "/not.there/Method"}) {
    RawHttp2 connection(f.server->listen_address());
    bool cut = false;
    for (uint32_t call = 0; call < 100'000 && !cut; ++call) {
      cut = !connection.StartAndReset(2 * call + 1, method);
    }
    EXPECT_TRUE(cut) << method;
  }
  EXPECT_TRUE(f.Try(TextRequest("hey")).ok());
  EXPECT_THAT(f.StopAndReadLog(), Contains(HasSubstr(" resets its calls: closed")));
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

// A few bytes may be a thousand times as many once they are expanded, before anybody counts them.
TEST(ConnectionTest, CompressedMessagesAreRefusedUnread) {
  ServerFixture f;
  v1::TokenizeRequest request;
  request.set_text(std::string(2 * kMaxRequestBytes, 'a'));
  v1::TokenizeResponse response;
  const auto context = f.Context();
  context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const grpc::Status status = f.inference->Tokenize(context.get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(), "Compression algorithm 'gzip' is disabled.");
  EXPECT_TRUE(f.Try(TextRequest("hey")).ok());
}

TEST(ConnectionTest, MetadataOfManyKilobytesIsTaken) {
  ServerFixture f;
  RawHttp2 connection(f.server->listen_address());
  ASSERT_EQ(connection.ReceiveOf(RawHttp2::kSettings).type, RawHttp2::kSettings);
  connection.Call(1, "/grpc.health.v1.Health/Watch", "");  // a neighbour that stays
  ASSERT_EQ(connection.ReceiveOf(RawHttp2::kData).stream, 1u);
  RawHttp2::Headers headers;
  for (int i = 0; i < 60; ++i)
    headers.push_back({"x-" + std::to_string(i), std::string(1000, 'v')});
  connection.Call(3, "/grpc.health.v1.Health/Check", "", headers);
  EXPECT_EQ(connection.ReceiveOf(RawHttp2::kData).stream, 3u);
  connection.Call(5, "/grpc.health.v1.Health/Check", "");
  EXPECT_EQ(connection.ReceiveOf(RawHttp2::kData).stream, 5u);
}

// A few bytes of HPACK may stand for many.
TEST(ConnectionTest, TooMuchMetadataInOneFrameEndsItsCallAlone) {
  ServerFixture f;
  RawHttp2 connection(f.server->listen_address());
  ASSERT_EQ(connection.ReceiveOf(RawHttp2::kSettings).type, RawHttp2::kSettings);
  connection.Call(1, "/grpc.health.v1.Health/Watch", "");  // a neighbour that stays
  ASSERT_EQ(connection.ReceiveOf(RawHttp2::kData).stream, 1u);
  uint32_t stream = 3;
  for (const char* method : {"Inference/Generate", "Inference/GenerateStream", "Inference/Tokenize",
                             "Control/GetLoad"}) {
    connection.CallRepeating(stream, std::string("/mea.v1.") + method, "", "x",
                             std::string(3000, 'v'), 300);
    const RawHttp2::Frame frame = connection.ReceiveOf(RawHttp2::kHeaders);
    EXPECT_EQ(frame.stream, stream);
    EXPECT_THAT(frame.payload, HasSubstr("metadata of 909"));
    stream += 2;
  }
  connection.Call(stream, "/grpc.health.v1.Health/Check", "");
  EXPECT_EQ(connection.ReceiveOf(RawHttp2::kData).stream, stream);
}

TEST(ConnectionTest, StringThatIsNotUtf8IsNamed) {
  ServerFixture f;
  v1::GenerateRequest request = TextRequest("hey");
  request.set_request_id("r-\xff");
  const grpc::Status status = f.Try(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "request_id is not valid UTF-8");
  v1::RenderChatRequest chat;
  chat.mutable_chat()->add_messages()->set_content("\xff");
  v1::RenderChatResponse rendered;
  EXPECT_EQ(f.inference->RenderChat(f.Context().get(), chat, &rendered).error_message(),
            "mea.v1.ChatMessage.content is not valid UTF-8");
  EXPECT_THAT(f.HttpGet("/metrics"),
              HasSubstr("mea_requests_total{model_name=\"fake\",code=\"INVALID_ARGUMENT\","
                        "finish_reason=\"\"} 1\n"));
  EXPECT_THAT(f.StopAndReadLog(), Contains(HasSubstr(" info request refused id=")));
}

TEST(ConnectionTest, BytesThatAreNoMessageAreRefused) {
  ServerFixture f;
  RawHttp2 connection(f.server->listen_address());
  for (const char* method : {"Inference/Generate", "Inference/Tokenize", "Control/Abort"}) {
    RawHttp2 fresh(f.server->listen_address());
    fresh.Call(1, std::string("/mea.v1.") + method, "\xff\xff");
    const auto frame = fresh.ReceiveOf(RawHttp2::kHeaders);
    EXPECT_THAT(frame.payload, HasSubstr("the message is not a mea.v1.")) << method;
  }
}

}  // namespace
}  // namespace mea::testing
