// A server to measure from outside: http_bench ADDRESS [THREADS], until its standard input ends.
//   GET /hello    a small answer
//   GET /stream   one event, then silence
//   GET /state    resident bytes of this process and the streams that are open
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/http/http_server.h"

namespace mea {
namespace {

std::atomic<int> open_streams = 0;

class SilentStream final : public HttpCall {
 public:
  explicit SilentStream(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {
    ++open_streams;
    exchange_->Begin({.content_type = "text/event-stream"});
    exchange_->Write("data: {}\n\n");
  }
  void OnGone() override { --open_streams; }

 private:
  const std::shared_ptr<HttpExchange> exchange_;
};

int64_t ResidentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

int Main(int argc, char** argv) {
  using Exchange = std::shared_ptr<HttpExchange>;
  const auto hello = [](Exchange exchange) {
    exchange->Send({.body = "hello"});
    return nullptr;
  };
  const auto stream = [](Exchange exchange) {
    return std::make_shared<SilentStream>(std::move(exchange));
  };
  const auto state = [](Exchange exchange) {
    exchange->Send({.body = absl::StrCat(ResidentBytes(), " ", open_streams.load(), "\n")});
    return nullptr;
  };
  const auto server = HttpServer::Start(
      {.listen = argc > 1 ? argv[1] : "127.0.0.1:0",
       .num_threads = argc > 2 ? std::atoi(argv[2]) : 1,
       .max_connections = 20000},
      {{"GET", "/hello", hello}, {"GET", "/stream", stream}, {"GET", "/state", state}});
  if (!server.ok()) {
    std::fprintf(stderr, "http_bench: %s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", (*server)->address().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}

}  // namespace
}  // namespace mea

int main(int argc, char** argv) { return mea::Main(argc, argv); }
