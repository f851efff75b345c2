// Several completions of one prompt.
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

struct CompletionResult {
  std::string text;
  std::vector<int32_t> token_ids;
  std::optional<v1::Finish> finish;
};

// Reads a stream to its end; nothing comes of a completion after its finish.
std::map<int, CompletionResult> ReadCompletions(
    grpc::ClientReader<v1::GenerateStreamResponse>& reader, grpc::Status& status) {
  std::map<int, CompletionResult> results;
  for (v1::GenerateStreamResponse event; reader.Read(&event);) {
    if (event.has_prompt()) {
      EXPECT_TRUE(results.empty());
      continue;
    }
    const int index = event.has_delta() ? event.delta().index() : event.finish().index();
    CompletionResult& result = results[index];
    EXPECT_FALSE(result.finish.has_value()) << index;
    if (event.has_delta()) {
      result.text += event.delta().text();
      result.token_ids.insert(result.token_ids.end(), event.delta().token_ids().begin(),
                              event.delta().token_ids().end());
    } else {
      result.finish = event.finish();
    }
  }
  status = reader.Finish();
  return results;
}

// Seed 7 + i is answered with the i-th text.
void AnswerBySeed(FakeEngine& engine, std::vector<std::string> texts) {
  engine.SetScript([texts](const Request& request) {
    const std::string& text = texts.at(request.sampling.seed - 7);
    return std::vector<int32_t>(text.begin(), text.end());
  });
}

v1::GenerateRequest RequestOf(int n) {
  v1::GenerateRequest request = TextRequest("hey");
  request.mutable_sampling()->set_n(n);
  request.mutable_sampling()->set_seed(7);
  return request;
}

TEST(CompletionsTest, EachHasItsTextItsFinishAndItsSeed) {
  ServerFixture f;
  const std::vector<std::string> texts = {"one", "the second of three", ""};
  AnswerBySeed(f.engine, texts);
  const auto context = f.Context();
  grpc::Status status;
  const auto results =
      ReadCompletions(*f.inference->GenerateStream(context.get(), RequestOf(3)), status);
  ASSERT_TRUE(status.ok()) << status.error_message();
  v1::GenerateResponse unary;
  ASSERT_TRUE(f.Generate(RequestOf(3), unary).ok());
  EXPECT_EQ(unary.prompt().prompt_tokens(), 3);
  ASSERT_EQ(unary.completions_size(), 3);
  for (int i = 0; i < 3; ++i) {
    const CompletionResult& result = results.at(i);
    EXPECT_EQ(result.text, texts[i]);
    EXPECT_EQ(result.finish->seed(), 7u + i);
    EXPECT_EQ(result.finish->usage().prompt_tokens(), 3);
    EXPECT_EQ(result.finish->usage().completion_tokens(), std::ssize(texts[i]) + 1);
    EXPECT_EQ(unary.completions(i).text(), texts[i]);
    EXPECT_EQ(unary.completions(i).finish().index(), i);
    EXPECT_EQ(unary.completions(i).finish().seed(), 7u + i);
  }
  EXPECT_EQ(f.engine.num_submitted(), 2) << "one request each time";
}

TEST(CompletionsTest, OneRequestIsCounted) {
  ServerFixture f;
  ASSERT_TRUE(f.Stream(TextRequest("hey")).status.ok());
  v1::GenerateResponse unary;
  AnswerBySeed(f.engine, {"a", "b", "c"});
  ASSERT_TRUE(f.Generate(RequestOf(3), unary).ok());
  EXPECT_NE(
      f.HttpGet("/metrics").find("mea_e2e_request_latency_seconds_count{model_name=\"fake\"} 2"),
      std::string::npos);
}

TEST(CompletionsTest, AStopStringEndsItsOwnAlone) {
  ServerFixture f;
  AnswerBySeed(f.engine, {"a STOP b", "goes on to its end, which is later"});
  v1::GenerateRequest request = RequestOf(2);
  request.mutable_stopping()->add_stop("STOP");
  v1::GenerateResponse unary;
  ASSERT_TRUE(f.Generate(request, unary).ok());
  EXPECT_EQ(unary.completions(0).text(), "a ");
  EXPECT_EQ(unary.completions(0).finish().stop_string(), "STOP");
  EXPECT_EQ(unary.completions(1).text(), "goes on to its end, which is later");
  EXPECT_EQ(unary.completions(1).finish().eos_token_id(), kEos);
}

TEST(CompletionsTest, EachEchoesThePrompt) {
  ServerFixture f;
  AnswerBySeed(f.engine, {"a", "b"});
  v1::GenerateRequest request = RequestOf(2);
  request.mutable_response()->set_echo(true);
  v1::GenerateResponse unary;
  ASSERT_TRUE(f.Generate(request, unary).ok());
  EXPECT_EQ(unary.completions(0).text(), "heya");
  EXPECT_EQ(unary.completions(1).text(), "heyb");
}

TEST(CompletionsTest, CancelAndFailureEndAll) {
  ServerFixture f({.automatic = false});
  AnswerBySeed(f.engine, {"aaaa", "bbbb", "cccc"});
  const auto context = f.Context();
  const auto reader = f.inference->GenerateStream(context.get(), RequestOf(3));
  ASSERT_TRUE(f.engine.AwaitInFlight(3));
  f.engine.Step();
  context->TryCancel();
  ASSERT_TRUE(f.engine.AwaitCancels(1));
  f.engine.Step();
  ASSERT_TRUE(f.engine.AwaitInFlight(0));
  grpc::Status status;
  ReadCompletions(*reader, status);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);

  const auto second_context = f.Context();
  const auto second = f.inference->GenerateStream(second_context.get(), RequestOf(3));
  ASSERT_TRUE(f.engine.AwaitInFlight(3));
  f.engine.Step();
  f.engine.FailAll(absl::UnavailableError("gone"));
  f.engine.Step();
  ReadCompletions(*second, status);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "gone");
}

}  // namespace
}  // namespace mea::testing
