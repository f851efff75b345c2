// Calls that come while the budget for text is taken.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/openai/routes.h"
#include "server/service_inference.h"
#include "tests/server/fake_engine.h"
#include "tests/server/http/http_fixture.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

class FullBudgetTest : public ::testing::Test {
 protected:
  FullBudgetTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&inference_);
    grpc_ = builder.BuildAndStart();
    stub_ = v1::Inference::NewStub(grpc_->InProcessChannel({}));
    auto http = HttpServer::Start({.listen = "127.0.0.1:0"},
                                  openai::Routes(serving_, /*open_metrics=*/true));
    EXPECT_TRUE(http.ok());
    http_ = *std::move(http);
    for (int64_t left = kMaxTextBytes; left > 0; left -= kLargeTextBytes) {
      taken_.push_back(serving_.text_budget.Take(kLargeTextBytes).value());
    }
  }

  ~FullBudgetTest() override {
    grpc_->Shutdown(absl::ToChronoTime(absl::Now()));
    http_.reset();
    serving_.requests.AwaitNone();
  }

  RawAnswer Post(const std::string& path, const std::string& body) {
    return RawClient(http_->address())
        .Ask(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: a\r\nContent-Length: ", body.size(),
                          "\r\n\r\n", body));
  }

  void AwaitNothingTaken() {
    for (int i = 0; i < 1000 && serving_.text_budget.taken() > 0; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(serving_.text_budget.taken(), 0);
  }

  FakeEngine engine_;
  std::unique_ptr<Tokenizer> tokenizer_ = MakeTestTokenizer();
  Metrics metrics_{{.model_name = "fake"}};
  Log log_{{.level = LogLevel::kOff}};
  Serving serving_{"fake", engine_, *tokenizer_, metrics_, log_, workers_, workers_};
  TextWorkers workers_{2, 8};  // their jobs use serving_: they end first
  InferenceService inference_{serving_};
  std::vector<TextLease> taken_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  google::rpc::ErrorInfo info;
  google::rpc::RetryInfo retry;
  bool has_retry = false;
  for (const auto& detail : details.details()) {
    if (detail.Is<google::rpc::ErrorInfo>()) detail.UnpackTo(&info);
    has_retry |= detail.UnpackTo(&retry) && retry.retry_delay().seconds() > 0;
  }
  return info.reason() + (has_retry ? " retry" : "");
}

TEST_F(FullBudgetTest, IsToldToComeBackOverGrpc) {
  const v1::GenerateRequest generate = TextRequest("hey");
  v1::GenerateResponse generated;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("hey");
  v1::TokenizeResponse tokenized;
  const auto try_all = [&] {
    grpc::ClientContext contexts[3];
    const auto reader = stub_->GenerateStream(&contexts[0], generate);
    return std::vector<grpc::Status>{ReadAll(*reader).status,
                                     stub_->Generate(&contexts[1], generate, &generated),
                                     stub_->Tokenize(&contexts[2], tokenize, &tokenized)};
  };
  for (const grpc::Status& status : try_all()) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(ReasonOf(status), "TEXT_BUDGET_FULL retry");
  }
  EXPECT_EQ(engine_.num_submitted(), 0);
  taken_.clear();
  for (const grpc::Status& status : try_all()) EXPECT_TRUE(status.ok()) << status.error_message();
  AwaitNothingTaken();
}

TEST_F(FullBudgetTest, IsToldToComeBackOverHttp) {
  const std::string prompt = R"({"model": "fake", "prompt": "hey"})";
  for (const char* path : {"/v1/completions", "/tokenize"}) {
    const RawAnswer answer = Post(path, prompt);
    EXPECT_EQ(answer.code, 429) << path;
    EXPECT_EQ(answer.Header("Retry-After"), "1") << path;
    EXPECT_THAT(answer.body, HasSubstr("text_budget_full")) << path;
  }
  taken_.clear();
  for (const char* path : {"/v1/completions", "/tokenize"}) EXPECT_EQ(Post(path, prompt).code, 200);
  AwaitNothingTaken();
}

TEST_F(FullBudgetTest, RequestThatIsWithTheEngineTakesNothing) {
  taken_.clear();
  FakeEngine* const engine = &engine_;
  engine->SetScript([](const Request&) { return std::vector<int32_t>(1 << 20, 'a'); });
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, TextRequest("hey", 1 << 19));
  ASSERT_TRUE(engine->AwaitSubmitted(1));
  v1::GenerateStreamResponse event;
  ASSERT_TRUE(reader->Read(&event));
  AwaitNothingTaken();
  context.TryCancel();
  ReadAll(*reader);
}

TEST_F(FullBudgetTest, AnswersThatClientsWouldNotTakeAreNotMade) {
  taken_.clear();
  v1::DetokenizeRequest request;
  for (int i = 0; i <= kMaxResponseBytes / kLongTokenBytes; ++i) request.add_token_ids(kLongToken);
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "the response of 4195328 bytes exceeds 4194304");
  EXPECT_EQ(ReasonOf(status), "RESPONSE_TOO_LARGE");
}

}  // namespace
}  // namespace mea::testing
