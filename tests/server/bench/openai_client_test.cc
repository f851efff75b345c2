// Against a server in this process that speaks as OpenAI's, llama.cpp's and vLLM's do.
#include "server/bench/openai_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace mea {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Chunk(const std::string& text, const std::string& finish_reason = "null") {
  return absl::StrCat("data: {\"choices\": [{\"index\": 0, \"text\": \"", text,
                      "\", \"finish_reason\": ", finish_reason, "}]}\n\n");
}

constexpr char kUsage[] =
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 4, "
    "\"prompt_tokens_details\": {\"cached_tokens\": 2}}}\n\n";
constexpr char kDone[] = "data: [DONE]\n\n";

class FakeOpenAi {
 public:
  FakeOpenAi() {
    server_.Post("/v1/completions",
                 [this](const httplib::Request& request, httplib::Response& response) {
                   {
                     absl::MutexLock lock(&mu_);
                     last_request_ = nlohmann::json::parse(request.body);
                     connections_.insert(request.remote_port);
                   }
                   answer(response);
                 });
    server_.Get("/v1/models", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(models, "application/json");
    });
    server_.set_keep_alive_max_count(1000);
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~FakeOpenAi() {
    server_.stop();
    thread_.join();
  }

  // The pieces one after the other, each a chunk of its own on the wire.
  void Stream(std::vector<std::string> pieces) {
    answer = [pieces = std::move(pieces)](httplib::Response& response) {
      response.set_chunked_content_provider("text/event-stream",
                                            [pieces](size_t, httplib::DataSink& sink) {
                                              for (const std::string& piece : pieces)
                                                sink.write(piece.data(), piece.size());
                                              sink.done();
                                              return true;
                                            });
    };
  }

  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_); }
  nlohmann::json last_request() {
    absl::MutexLock lock(&mu_);
    return last_request_;
  }
  size_t num_connections() {
    absl::MutexLock lock(&mu_);
    return connections_.size();
  }

  // Set before the first request.
  std::function<void(httplib::Response&)> answer;
  std::string models = R"({"data": [{"id": "some-model"}, {"id": "other"}]})";

 private:
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  absl::Mutex mu_;
  nlohmann::json last_request_ ABSL_GUARDED_BY(mu_);
  std::set<int> connections_ ABSL_GUARDED_BY(mu_);
};

class OpenAiClientTest : public ::testing::Test {
 protected:
  RequestRecord Run(const BenchRequest& request, BenchCallOptions options = {.model = "m"}) {
    const auto client = OpenAiBenchClients({server_.url()}, std::move(options))();
    return client->Run(request, BenchClock::now(), live_);
  }

  FakeOpenAi server_;
  LiveCounts live_;
};

TEST_F(OpenAiClientTest, CountsChunksAndTakesTheUsage) {
  // vLLM: the reason comes with the last token.
  server_.Stream({Chunk("a"), Chunk(""), Chunk("c"), Chunk("d", "\"length\""), kUsage, kDone});
  const RequestRecord record = Run({.token_ids = {5, 6, 7}, .max_tokens = 4});
  EXPECT_TRUE(record.ok()) << record.status << record.message;
  EXPECT_EQ(record.num_tokens, 4);
  EXPECT_EQ(record.completion_tokens, 4);
  EXPECT_EQ(record.prompt_tokens, 3);
  EXPECT_EQ(record.cached_tokens, 2);
  EXPECT_EQ(live_.tokens, 4);
  const auto sent = server_.last_request();
  EXPECT_EQ(sent["prompt"], (std::vector<int>{5, 6, 7}));
  EXPECT_EQ(sent["max_tokens"], 4);
  EXPECT_EQ(sent["model"], "m");
  EXPECT_EQ(sent["stream"], true);
  EXPECT_EQ(sent["ignore_eos"], true);
}

TEST_F(OpenAiClientTest, EndWithoutTextIsNoToken) {
  // llama.cpp: the reason comes in a chunk of its own.
  server_.Stream({Chunk("a"), Chunk("b"), Chunk("", "\"stop\""), kDone});
  const RequestRecord record = Run({.text = "hey", .max_tokens = 4});
  EXPECT_TRUE(record.ok());
  EXPECT_EQ(record.num_tokens, 2);
  EXPECT_EQ(server_.last_request()["prompt"], "hey");
}

TEST_F(OpenAiClientTest, ChunksMayBeTornAnywhere) {
  const std::string stream = absl::StrCat(Chunk("a"), Chunk("b"), Chunk("c"), kUsage, kDone);
  for (const size_t size : {size_t{1}, size_t{7}, stream.size()}) {
    std::vector<std::string> pieces;
    for (size_t at = 0; at < stream.size(); at += size) pieces.push_back(stream.substr(at, size));
    server_.Stream(pieces);
    const RequestRecord record = Run({.text = "hey", .max_tokens = 4});
    EXPECT_TRUE(record.ok()) << size;
    EXPECT_EQ(record.num_tokens, 3) << size;
    EXPECT_EQ(record.completion_tokens, 4) << size;
  }
}

TEST_F(OpenAiClientTest, ConnectionIsKept) {
  server_.Stream({Chunk("a"), kDone});
  const auto client = OpenAiBenchClients({server_.url()}, {})();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(client->Run({.text = "hey"}, BenchClock::now(), live_).ok());
  }
  EXPECT_EQ(server_.num_connections(), 1u);
}

TEST_F(OpenAiClientTest, RefusalIsRecordedWithItsCodeMessageAndAdvice) {
  server_.answer = [](httplib::Response& response) {
    response.status = 429;
    response.set_header("Retry-After", "1");
    response.set_content(R"({"error": {"message": "too busy"}})", "application/json");
  };
  const RequestRecord record = Run({.text = "hey", .max_tokens = 4});
  EXPECT_EQ(record.status, "HTTP 429");
  EXPECT_THAT(record.message, HasSubstr("too busy"));
  EXPECT_TRUE(record.retry_told);
  EXPECT_EQ(live_.failed, 1);
}

TEST_F(OpenAiClientTest, FailureInsideTheStreamIsNoSuccess) {
  server_.Stream({Chunk("a"), "data: {\"error\": {\"message\": \"out of memory\"}}\n\n", kDone});
  const RequestRecord failed = Run({.text = "hey", .max_tokens = 4});
  EXPECT_EQ(failed.status, "ERROR IN STREAM");
  EXPECT_THAT(failed.message, HasSubstr("out of memory"));
  server_.Stream({Chunk("a")});
  EXPECT_EQ(Run({.text = "hey", .max_tokens = 4}).status, "CUT OFF");
}

TEST_F(OpenAiClientTest, TurnsAwayAndTheServerNotices) {
  absl::Notification gone;
  server_.answer = [&](httplib::Response& response) {
    response.set_chunked_content_provider(
        "text/event-stream", [&](size_t, httplib::DataSink& sink) {
          const std::string chunk = Chunk("a");
          if (sink.is_writable() && sink.write(chunk.data(), chunk.size())) return true;
          if (!gone.HasBeenNotified()) gone.Notify();
          return false;
        });
  };
  const RequestRecord record = Run({.text = "hey", .max_tokens = 100, .cancel_after = 3});
  EXPECT_TRUE(record.cancelled);
  EXPECT_GE(record.num_tokens, 3);
  EXPECT_TRUE(gone.WaitForNotificationWithTimeout(absl::Seconds(10)));
  EXPECT_EQ(live_.failed, 0);
}

TEST_F(OpenAiClientTest, SilentServerIsGivenUp) {
  // The server's thread may look at it after this test.
  const auto end = std::make_shared<absl::Notification>();
  server_.answer = [end](httplib::Response&) { end->WaitForNotification(); };
  EXPECT_EQ(Run({.text = "hey"}, {.timeout_s = 0.05}).status, "DEADLINE_EXCEEDED");
  end->Notify();
}

TEST_F(OpenAiClientTest, AsksForTheModel) {
  EXPECT_EQ(*AskOpenAiModel({server_.url()}), "some-model");
  server_.models = "{}";
  EXPECT_THAT(std::string(AskOpenAiModel({server_.url()}).status().message()),
              HasSubstr("names no model"));
  EXPECT_THAT(std::string(AskOpenAiModel({"http://127.0.0.1:1"}).status().message()),
              StartsWith("no server at http://127.0.0.1:1"));
}

TEST(OpenAiClientWithoutServerTest, NobodyThereIsUnavailable) {
  LiveCounts live;
  const auto client = OpenAiBenchClients({"http://127.0.0.1:1"}, {})();
  EXPECT_EQ(client->Run({.text = "hey"}, BenchClock::now(), live).status, "UNAVAILABLE");
}

// Answers the first request of a connection and closes it when the second comes, as a server does
// whose patience with an idle connection ends at that moment.
class OneAnswerPerConnection {
 public:
  OneAnswerPerConnection() {
    sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    listen(listener_, 8);
    thread_ = std::thread([this] { Serve(); });
  }
  ~OneAnswerPerConnection() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_); }

 private:
  void Serve() {
    const std::string body = absl::StrCat(Chunk("a", "\"length\""), kDone);
    const std::string answer = absl::StrCat(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: ", body.size(),
        "\r\n\r\n", body);
    char request[4096];
    for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0; close(fd)) {
      if (read(fd, request, sizeof(request)) <= 0) continue;
      if (write(fd, answer.data(), answer.size()) < 0) continue;
      pollfd next = {fd, POLLIN, 0};
      poll(&next, 1, -1);
    }
  }

  const int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  int port_ = 0;
  std::thread thread_;
};

TEST(OpenAiClientRawTest, ConnectionClosedWhenUsedAgainIsNoFailure) {
  OneAnswerPerConnection server;
  LiveCounts live;
  const auto client = OpenAiBenchClients({server.url()}, {.model = "m"})();
  for (int i = 0; i < 5; ++i) {
    const RequestRecord record = client->Run({.text = "hey"}, BenchClock::now(), live);
    EXPECT_TRUE(record.ok()) << i << ": " << record.status << " " << record.message;
  }
}

}  // namespace
}  // namespace mea
