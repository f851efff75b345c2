// `mea serve` to which the allocator gives nothing, once, somewhere in a request.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/mman.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/serve_process.h"
#include "tests/support/failing_malloc.h"

namespace mea::testing {
namespace {

constexpr int kTries = 100;
constexpr absl::Duration kPatience = absl::Seconds(20);
constexpr int64_t kMaxAllocationBytes = 64 << 20;

// A server whose allocations are counted, and fail when it is told.
class CountedServer {
 public:
  CountedServer() {
    std::ofstream(path_).write(std::string(sizeof(Allocations), '\0').data(), sizeof(Allocations));
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    allocations_ = static_cast<Allocations*>(
        mmap(nullptr, sizeof(Allocations), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    setenv("LD_PRELOAD", MEA_FAILING_MALLOC, 1);
    setenv(kFailingMallocVariable, path_.c_str(), 1);
    process.emplace(std::vector<std::string>{"serve", kModel, "--listen", "127.0.0.1:0", "--admin",
                                             "off", "--http", "127.0.0.1:0", "--threads", "1",
                                             "--log-level", "off", "--chat-template",
                                             MEA_SOURCE_DIR "/tests/clients/chat_template.jinja"});
    unsetenv("LD_PRELOAD");
    const std::string ready = process->ReadLine();
    std::smatch match;
    EXPECT_TRUE(std::regex_search(ready, match, std::regex("gRPC ([^,]+), OpenAI API ([^,]+)/v1")))
        << ready;
    grpc_address_ = match[1];
    http_address_ = match[2];
  }
  ~CountedServer() {
    munmap(allocations_, sizeof(Allocations));
    std::filesystem::remove(path_);
  }
  CountedServer(const CountedServer&) = delete;

  Allocations& allocations() { return *allocations_; }

  // One request of each kind, on new connections. What went wrong; empty: each was answered.
  std::string Mix(int number) {
    std::string problems;
    const auto post = [&](const std::string& path, const std::string& body) {
      problems += Post(path, body);
    };
    post("completions", R"({"prompt": "Once upon", "max_tokens": 6, "logprobs": 2})");
    const std::string chat = R"("messages": [{"role": "user", "content": "hi"}], )";
    post("chat/completions",
         absl::StrCat("{", chat, R"("max_tokens": 6, "n": 2, "stream": true})"));
    post("chat/completions",
         absl::StrCat("{", chat, R"("max_tokens": 60, "response_format": {"type": "json_schema", )",
                      R"("json_schema": {"name": "a", "schema": {"title": ")", number,
                      R"(", "type": "object", "properties": {"a": {"type": "integer"}}}}}})"));
    grpc::ChannelArguments own_connection;
    own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
        grpc_address_, grpc::InsecureChannelCredentials(), own_connection));
    const auto call = [&](const char* name, auto run) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
      const grpc::Status status = run(context);
      if (status.ok()) return;
      absl::StrAppend(&problems, name, ": ", status.error_message(), "; ");
      is_late |= status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    };
    call("stream", [&](grpc::ClientContext& context) {
      return ReadAll(*stub->GenerateStream(&context, TextRequest("Once", 6))).status;
    });
    call("tokenize", [&](grpc::ClientContext& context) {
      v1::TokenizeRequest request;
      request.set_text("Once upon a time");
      v1::TokenizeResponse response;
      return stub->Tokenize(&context, request, &response);
    });
    return problems;
  }

  // Empty: 200.
  std::string Post(const std::string& path, const std::string& body) {
    httplib::Client client(http_address_);
    client.set_read_timeout(absl::ToInt64Seconds(kPatience));
    const absl::Time asked = absl::Now();
    const auto answer = client.Post("/v1/" + path, body, "application/json");
    is_late |= absl::Now() - asked >= kPatience;
    if (answer && answer->status == 200) return "";
    return absl::StrCat(path, ": ", answer ? answer->body : httplib::to_string(answer.error()),
                        "; ");
  }

  std::optional<Process> process;
  bool is_late = false;  // an answer did not come in time

 private:
  const std::string path_ = absl::StrCat(::testing::TempDir(), "mea_allocations_", getpid());
  Allocations* allocations_ = nullptr;
  std::string grpc_address_, http_address_;
};

TEST(AllocationFailureTest, EndsInOneLineOrTheServerServesOn) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 rng(seed);
  std::optional<CountedServer> server;
  int64_t mix_size = 0;
  int num_ends = 0;
  for (int i = 0; i < kTries; ++i) {
    if (!server) {
      server.emplace();
      ASSERT_EQ(server->Mix(-1), "");
      const int64_t before = server->allocations().count;
      ASSERT_EQ(server->Mix(-2), "");
      mix_size = server->allocations().count - before;
    }
    const int64_t offset = std::uniform_int_distribution<int64_t>(1, mix_size)(rng);
    SCOPED_TRACE(absl::StrCat("allocation ", offset, " of ", mix_size));
    server->allocations().fails_at = server->allocations().count + offset;
    const std::string problems = server->Mix(i);
    server->allocations().fails_at = 0;
    EXPECT_FALSE(server->is_late) << problems;
    // An end is seen by its connections before it is one.
    if (server->Mix(kTries + i).empty()) continue;
    EXPECT_EQ(server->process->ReadErrors(),
              "mea serve: out of memory; see --kv-cache-bytes, ulimit -v\n")
        << problems;
    EXPECT_EQ(server->process->Wait(), 1);
    server.reset();
    ++num_ends;
  }
  EXPECT_GT(num_ends, 0);
}

// Whatever a client writes into a request: what is taken at once for it is bounded.
TEST(AllocationFailureTest, NoNumberOfAClientIsASizeOfMemory) {
  CountedServer server;
  server.allocations().largest = 0;
  for (const int64_t number :
       {int64_t{64}, int64_t{10000}, int64_t{1} << 20, int64_t{1} << 31, int64_t{1} << 62}) {
    for (const char* field : {"max_tokens", "n", "best_of", "logprobs", "min_tokens", "seed",
                              "top_k", "truncate_prompt_tokens", "prompt_logprobs", "priority"}) {
      server.Post("completions",
                  absl::StrCat(R"({"prompt": "Once", ")", field, "\": ", number, "}"));
    }
    const std::string times = absl::StrCat("{", number, "}");
    for (const std::string& pattern : {"a" + times, "(a{1,30}b?)" + times}) {
      server.Post("completions",
                  absl::StrCat(R"({"prompt": "Once", "max_tokens": 2, "structured_outputs": )",
                               R"({"regex": ")", pattern, "\"}}"));
    }
    for (const char* bound : {"minItems", "maxItems", "minLength", "maxLength", "minProperties"}) {
      const char* type = bound[3] == 'I' ? "array" : bound[3] == 'L' ? "string" : "object";
      server.Post(
          "completions",
          absl::StrCat(R"({"prompt": "Once", "max_tokens": 2, "structured_outputs": )",
                       R"({"json": {"type": ")", type, "\", \"", bound, "\": ", number, "}}}"));
    }
  }
  EXPECT_TRUE(server.process->IsRunning());
  EXPECT_LT(server.allocations().largest, kMaxAllocationBytes);
}

}  // namespace
}  // namespace mea::testing
