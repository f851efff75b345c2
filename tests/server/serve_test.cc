// `mea serve` as a process, with the demo model: from its ready line to its exit status.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "tests/server/serve_process.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using Health = grpc::health::v1::HealthCheckResponse;

TEST(ServeTest, ServesTheDemoModelUntilASignalAndThenExitsWithZero) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Process serve = Serve();
    const std::string ready = serve.ReadLine();
    EXPECT_THAT(ready, HasSubstr("ratio 0.500"));
    const auto stub = v1::Inference::NewStub(Connect(ready));
    v1::GenerateRequest request = TextRequest("Once upon a time", 8);
    request.mutable_sampling()->set_temperature(0);
    v1::GenerateResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Generate(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.completions(0).token_ids_size(), 8);
    EXPECT_EQ(response.completions(0).finish().usage().kv_bytes() * 2,
              response.completions(0).finish().usage().kv_bytes_uncompressed());
    serve.Signal(signal);
    EXPECT_EQ(serve.ReadErrors(), "");
    EXPECT_EQ(serve.Wait(), 0);
  }
}

TEST(ServeTest, LogsEachEventOnceOnStderrAndNothingElseAsJson) {
  Process serve = Serve("127.0.0.1:0", {"--log-format", "json", "--stats-interval", "0"});
  auto ready = nlohmann::json::parse(serve.ReadErrorLine());
  while (ready["event"] == "loading") ready = nlohmann::json::parse(serve.ReadErrorLine());
  EXPECT_EQ(ready["event"], "ready");
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(ready["listen"], grpc::InsecureChannelCredentials()));
  v1::GenerateRequest request = TextRequest("Once upon a time", 8);
  request.set_request_id("r-1");
  request.mutable_stopping()->set_ignore_eos(true);
  v1::GenerateResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub->Generate(&context, request, &response).ok());
  serve.Signal(SIGTERM);
  std::vector<std::string> events;
  std::istringstream lines(serve.ReadErrors());
  for (std::string line; std::getline(lines, line);) {
    const auto fields = nlohmann::json::parse(line);
    events.push_back(fields["event"]);
    if (events.back() != "request finished") continue;
    EXPECT_EQ(fields["id"], "r-1");
    EXPECT_EQ(fields["completion_tokens"], 8);
    EXPECT_GT(fields["ttft_ms"], 0);
    EXPECT_GE(fields["total_ms"], fields["ttft_ms"]);
    EXPECT_GT(fields["kv_bytes"], 0);
  }
  EXPECT_THAT(events, ::testing::ElementsAre("machine", "defaults", "steps", "request finished",
                                             "drain begins", "drain ended"));
  EXPECT_EQ(serve.ReadLine(), "");
  EXPECT_EQ(serve.Wait(), 0);
}

TEST(ServeTest, InfoNamesWhatTheOptionsBecame) {
  Process serve = Serve();
  const auto stub = v1::Control::NewStub(Connect(serve.ReadLine()));
  v1::GetModelInfoResponse model;
  grpc::ClientContext model_context;
  ASSERT_TRUE(stub->GetModelInfo(&model_context, {}, &model).ok());
  EXPECT_EQ(model.weight_dtype(), "bf16");
  EXPECT_EQ(model.limits().max_context(), 512);
  EXPECT_EQ(model.head_composition().kind(), "mea");
  EXPECT_DOUBLE_EQ(model.cache().compression_ratio(), 0.5);
  v1::GetServerInfoResponse info;
  grpc::ClientContext info_context;
  ASSERT_TRUE(stub->GetServerInfo(&info_context, {}, &info).ok());
  EXPECT_THAT(info.device(), ::testing::EndsWith(", 1 thread"));
}

TEST(ServeTest, SignalWhileLoadingEndsWithOneLine) {
  const std::string fifo = ::testing::TempDir() + "mea_template_" + std::to_string(getpid());
  for (const int signal : {SIGINT, SIGTERM}) {
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    Process serve = Serve("127.0.0.1:0", {"--log-level", "off", "--chat-template", fifo});
    const int writer = open(fifo.c_str(), O_WRONLY | O_CLOEXEC);  // once the server reads it
    serve.Signal(signal);
    EXPECT_EQ(serve.ReadErrors(), "mea serve: interrupted before it was ready\n");
    EXPECT_EQ(serve.Wait(), 128 + signal);
    close(writer);
    unlink(fifo.c_str());
  }
}

// A template that does not come holds up the start.
TEST(ServeTest, AStartThatTakesLongSaysWhatItIsAt) {
  const std::string fifo = ::testing::TempDir() + "mea_template_" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Process serve = Serve("127.0.0.1:0", {"--chat-template", fifo});
  const int writer = open(fifo.c_str(), O_WRONLY | O_CLOEXEC);
  std::string line = serve.ReadErrorLine();
  while (line.find("template") == line.npos) line = serve.ReadErrorLine();
  EXPECT_THAT(line, ::testing::HasSubstr(std::string(" info loading model=") + kModel +
                                         " step=\"tokenizer and chat template\" elapsed_ms="));
  ASSERT_EQ(write(writer, "{{ messages }}", 14), 14);
  close(writer);
  EXPECT_THAT(serve.ReadLine(), ::testing::StartsWith("serving demo-mea: "));
  unlink(fifo.c_str());
}

TEST(ServeTest, WorkIsFollowedByALineOfStats) {
  Process serve = Serve("127.0.0.1:0", {"--stats-interval", "0.1"});
  const auto stub = v1::Inference::NewStub(Connect(serve.ReadLine()));
  v1::GenerateResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub->Generate(&context, TextRequest("Once upon a time", 8), &response).ok());
  std::string line = serve.ReadErrorLine();
  while (!line.empty() && line.find(" stats ") == line.npos) line = serve.ReadErrorLine();
  EXPECT_THAT(line, ::testing::ContainsRegex(" info stats prompt_tokens_per_s=[0-9.]+ "
                                             "generation_tokens_per_s=[0-9.]+ running=0 "));
}

TEST(ServeTest, SecondSignalEndsAtOnce) {
  Process serve = Serve();
  const auto channel = Connect(serve.ReadLine());
  // More than is computed before the second signal: the drain waits for it.
  const auto inference = v1::Inference::NewStub(channel);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> streams;
  for (int i = 0; i < 200; ++i) {
    v1::GenerateRequest request = TextRequest("Once", 500);
    request.mutable_stopping()->set_ignore_eos(true);
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(inference->GenerateStream(contexts.back().get(), request));
  }
  const auto health = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  const auto watcher = health->Watch(&context, {});
  Health state;
  ASSERT_TRUE(watcher->Read(&state));
  ASSERT_EQ(state.status(), Health::SERVING);
  serve.Signal(SIGTERM);
  ASSERT_TRUE(watcher->Read(&state));
  EXPECT_EQ(state.status(), Health::NOT_SERVING);
  serve.Signal(SIGTERM);
  EXPECT_EQ(serve.Wait(), 128 + SIGTERM);
}

TEST(ServeTest, DrainEndsWhatIsLeftAtItsTimeout) {
  Process serve =
      Serve("127.0.0.1:0", {"--log-level", "off", "--drain-timeout", "0.3", "--max-num-seqs", "2"});
  const auto channel = Connect(serve.ReadLine());
  const auto inference = v1::Inference::NewStub(channel);
  const auto stream = [&](grpc::ClientContext& context, int max_tokens) {
    v1::GenerateRequest request = TextRequest("Once", max_tokens);
    request.mutable_stopping()->set_ignore_eos(true);
    return inference->GenerateStream(&context, request);
  };
  // More than can be computed in that time, and first one that can.
  grpc::ClientContext short_context;
  const auto short_stream = stream(short_context, 2);
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(short_stream->Read(&event));
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> streams;
  for (int i = 0; i < 200; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stream(*contexts.back(), 500));
  }
  ASSERT_TRUE(streams.back()->Read(&event));  // the server has them all
  serve.Signal(SIGTERM);
  EXPECT_TRUE(ReadAll(*short_stream).status.ok());
  int unavailable = 0;
  for (const auto& left : streams) {
    const grpc::Status status = ReadAll(*left).status;
    if (status.ok()) continue;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    ++unavailable;
  }
  EXPECT_GT(unavailable, 0);
  EXPECT_EQ(serve.Wait(), 0);
}

// A copy of the demo model that may be changed.
class CopiedModel {
 public:
  explicit CopiedModel(const std::string& name)
      : dir_(::testing::TempDir() + "mea_" + name + "_" + std::to_string(getpid())) {
    std::filesystem::remove_all(dir_);
    std::filesystem::copy(kModel, dir_);
  }
  ~CopiedModel() { std::filesystem::remove_all(dir_); }

  const std::string& dir() const { return dir_; }
  void Write(const std::string& file, const std::string& text) const {
    std::ofstream(dir_ + "/" + file) << text;
  }
  // Serves it, with further flags.
  Process Start(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "serve", dir_,        "--listen", "127.0.0.1:0", "--admin", "off",          "--http",
        "off",   "--threads", "2",        "--log-level", "off",     "--model-name", "demo-mea"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Process(std::move(arguments));
  }
  // The line with which it refuses to serve.
  std::string Refusal(const std::vector<std::string>& more = {}) const {
    Process serve = Start(more);
    if (const std::string ready = serve.ReadLine(); !ready.empty()) return ready;
    const std::string line = serve.ReadErrors();
    EXPECT_EQ(serve.Wait(), 1) << line;
    return line;
  }

 private:
  const std::string dir_;
};

TEST(ServeTest, DefaultsThatRequestsWouldBeRefusedForAreRefusedAtTheStart) {
  const CopiedModel model("defaults");
  const std::string hint = "; see --generation-config\n";
  for (const auto& [json, message] : std::vector<std::pair<std::string, std::string>>{
           {R"({"temperature": 2.5})", "temperature 2.5 is outside 0..2" + hint},
           {R"({"top_p": 0})", "top_p 0 keeps no token; the least is above 0" + hint},
           {R"({"top_k": 100000})", "top_k 100000 is outside 0..1009" + hint},
           {R"({"repetition_penalty": 20})", "repetition_penalty 20 is outside 0.01..10" + hint},
           {R"({"temperature": "hot"})",
            "temperature: expected a number in 0..100, found \"hot\"\n"},
           {R"({"temperature": NaN})", "expected JSON, found NaN, which is no JSON, at byte 17\n"},
       }) {
    model.Write("generation_config.json", json);
    EXPECT_EQ(model.Refusal(), "mea serve: " + model.dir() + "/generation_config.json: " + message);
  }
}

TEST(ServeTest, AFileOrNoneTakesThePlaceOfTheCheckpointsDefaults) {
  const CopiedModel model("replaced");
  model.Write("generation_config.json", R"({"temperature": 2.5, "eos_token_id": [1, 2]})");
  model.Write("mine.json", R"({"temperature": 0.5, "top_k": 7, "eos_token_id": 3})");
  const auto defaults = [](Process serve) {
    const auto stub = v1::Control::NewStub(Connect(serve.ReadLine()));
    v1::GetModelInfoResponse info;
    grpc::ClientContext context;
    EXPECT_TRUE(stub->GetModelInfo(&context, {}, &info).ok());
    return info;
  };
  v1::GetModelInfoResponse info =
      defaults(model.Start({"--generation-config", model.dir() + "/mine.json"}));
  EXPECT_EQ(info.default_sampling().temperature(), 0.5f);
  EXPECT_EQ(info.default_sampling().top_k(), 7);
  EXPECT_THAT(info.eos_token_ids(), ::testing::ElementsAre(3));
  info = defaults(model.Start({"--generation-config", "none"}));
  EXPECT_EQ(info.default_sampling().temperature(), 1);
  EXPECT_THAT(info.eos_token_ids(), ::testing::ElementsAre(1, 2));
  EXPECT_THAT(model.Refusal({"--generation-config", "/nonexistent.json"}),
              HasSubstr("mea serve: /nonexistent.json: cannot open"));
}

TEST(ServeTest, ACheckpointCutShortIsOneLineAndAnExitCodeOfItsOwn) {
  const CopiedModel model("cut");
  Process serve = model.Start();
  const auto stub = v1::Inference::NewStub(Connect(serve.ReadLine()));
  std::filesystem::resize_file(model.dir() + "/model.safetensors", 4096);
  v1::GenerateResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub->Generate(&context, TextRequest("Once", 8), &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(serve.ReadErrors(),
              ::testing::MatchesRegex("mea serve: " + model.dir() +
                                      "/model.safetensors: lost while it was in use: [^\n]*\n"));
  EXPECT_EQ(serve.Wait(), 3);
}

// It is text in every answer: gRPC could write none.
TEST(ServeTest, ANameThatIsNotUtf8IsRefused) {
  Process serve({"serve", kModel, "--model-name", "a\xff"});
  EXPECT_EQ(serve.ReadErrors(),
            "mea serve: --model-name 'a\\xff' is not UTF-8; it is the directory's name where it is "
            "not given\n");
  EXPECT_EQ(serve.Wait(), 1);
}

// Addresses come first: the model, which is not there, is not looked at.
TEST(ServeTest, AddressesAreCheckedBeforeTheModelIsLoaded) {
  ServerFixture taken;
  const std::string address = taken.server->http_address();
  for (const auto& [flag, value, message] : std::vector<std::array<std::string, 3>>{
           {"--http", address,
            address + ": Address already in use; choose another port, 0 takes a free one"},
           {"--admin", "here", "'here' is not HOST:PORT with a port of 0..65535"},
       }) {
    Process serve({"serve", "/nonexistent", "--listen", "127.0.0.1:0", flag, value,
                   flag == "--http" ? "--admin" : "--http", "off"});
    EXPECT_EQ(serve.ReadErrors(), "mea serve: " + flag + " " + message + "\n");
    EXPECT_EQ(serve.Wait(), 1);
  }
}

}  // namespace
}  // namespace mea::testing
