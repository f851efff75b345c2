// POST /v1/responses in front of a fake engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/server/openai/api_fixture.h"

namespace mea::testing {
namespace {

constexpr char kResponsesPath[] = "/v1/responses";

const Json kFlatWeatherTool = {
    {"type", "function"}, {"name", "weather"}, {"parameters", {{"type", "object"}}}};
constexpr char kCall[] =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";

std::string SeenPrompt(const FakeEngine& engine) {
  const std::vector<int32_t> ids = engine.last_request().prompt;
  return {ids.begin(), ids.end()};
}

TEST(OpenAiResponsesTest, TextIsOneMessageItem) {
  ApiFixture f;
  f.engine.SetAnswer("Good day.");
  const ApiAnswer answer =
      f.Post(kResponsesPath, Json{{"input", "Hi"}, {"instructions", "Be brief."}});
  ASSERT_EQ(answer.code, 200) << answer.body;
  EXPECT_EQ(SeenPrompt(f.engine), "system: Be brief.\nuser: Hi\nassistant: ");
  const Json json = answer.json();
  EXPECT_EQ(json["object"], "response");
  EXPECT_EQ(json["status"], "completed");
  ASSERT_EQ(json["output"].size(), 1u);
  EXPECT_EQ(json["output"][0]["content"][0]["text"], "Good day.");
  EXPECT_EQ(json["usage"]["output_tokens"], 10);
}

TEST(OpenAiResponsesTest, ThoughtsMessageAndCallAreItemsInTheirOrder) {
  ApiFixture f;
  f.engine.SetAnswer(std::string("<think>Hm.</think>See:") + kCall);
  const Json body = {{"input", "Hi"}, {"tools", Json::array({kFlatWeatherTool})}};
  const Json output = f.Post(kResponsesPath, body).json()["output"];
  ASSERT_EQ(output.size(), 3u) << output;
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[1]["type"], "message");
  EXPECT_EQ(output[2]["type"], "function_call");
  EXPECT_EQ(output[2]["name"], "weather");
  EXPECT_EQ(output[2]["arguments"], "{\"city\": \"Rome\"}");
}

TEST(OpenAiResponsesTest, StreamEndsWithTheWholeResponse) {
  ApiFixture f;
  f.engine.SetAnswer(std::string("<think>Hm.</think>See:") + kCall);
  Json body = {{"input", "Hi"}, {"tools", Json::array({kFlatWeatherTool})}, {"stream", true}};
  const std::vector<Json> events = f.Post(kResponsesPath, body).Events();
  ASSERT_GT(events.size(), 6u);
  EXPECT_EQ(events.front()["type"], "response.created");
  EXPECT_EQ(events.back()["type"], "response.completed");
  std::string text, arguments, thoughts;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]["sequence_number"], i);
    const std::string type = events[i]["type"];
    if (type == "response.output_text.delta") text += events[i]["delta"].get<std::string>();
    if (type == "response.reasoning_text.delta") thoughts += events[i]["delta"].get<std::string>();
    if (type == "response.function_call_arguments.delta") {
      arguments += events[i]["delta"].get<std::string>();
    }
  }
  EXPECT_EQ(text, "See:");
  EXPECT_EQ(thoughts, "Hm.");
  EXPECT_EQ(arguments, "{\"city\": \"Rome\"}");
  EXPECT_EQ(events.back()["response"]["output"].size(), 3u);
}

TEST(OpenAiResponsesTest, ResultsOfToolsGoBack) {
  ApiFixture f;
  const Json input = Json::array(
      {{{"role", "user"}, {"content", "Weather?"}},
       {{"type", "function_call"}, {"call_id", "c1"}, {"name", "weather"}, {"arguments", "{}"}},
       {{"type", "function_call_output"}, {"call_id", "c1"}, {"output", "sunny"}}});
  const ApiAnswer answer = f.Post(kResponsesPath, Json{{"input", input}});
  ASSERT_EQ(answer.code, 200) << answer.body;
  EXPECT_EQ(SeenPrompt(f.engine), "user: Weather?\nassistant: \ntool: sunny\nassistant: ");
}

TEST(OpenAiResponsesTest, ACutReplyIsIncomplete) {
  ApiFixture f;
  f.engine.SetAnswer("Good day.");
  const Json json = f.Post(kResponsesPath, Json{{"input", "Hi"}, {"max_output_tokens", 4}}).json();
  EXPECT_EQ(json["status"], "incomplete");
  EXPECT_EQ(json["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(json["output"][0]["content"][0]["text"], "Good");
}

TEST(OpenAiResponsesTest, TextFormatIsHeldToByAGrammar) {
  ApiFixture f;
  const Json format = {
      {"type", "json_schema"}, {"name", "x"}, {"schema", {{"type", "object"}}}, {"strict", true}};
  ASSERT_EQ(f.Post(kResponsesPath, Json{{"input", "Hi"}, {"text", {{"format", format}}}}).code,
            200);
  EXPECT_NE(f.engine.last_request().grammar, nullptr);
}

TEST(OpenAiResponsesTest, VllmsStructuredOutputIsHeldToAsInChats) {
  ApiFixture f;
  for (const Json& fields : {Json{{"guided_choice", {"yes", "no"}}},
                             Json{{"structured_outputs", {{"regex", "[ab]+"}}}}}) {
    Json body = {{"input", "Hi"}};
    body.update(fields);
    ASSERT_EQ(f.Post(kResponsesPath, body).code, 200);
    EXPECT_NE(f.engine.last_request().grammar, nullptr) << fields;
  }
}

TEST(OpenAiResponsesTest, AnItemThatTheTemplateCannotTakeIsNamedAsItWasSent) {
  ApiFixture f;
  const Json image = Json::array({{{"type", "input_image"}}});
  const Json body = {{"instructions", "Be brief."},
                     {"input",
                      {{{"type", "reasoning"}, {"summary", Json::array()}},
                       {{"role", "user"}, {"content", "Hi"}},
                       {{"role", "user"}, {"content", image}}}}};
  const Json error = f.Post(kResponsesPath, body).error();
  EXPECT_EQ(error["message"], "input[2].content[0].type \"input_image\" is not supported");
  EXPECT_EQ(error["param"], "input[2]");
}

TEST(OpenAiResponsesTest, LogprobsComeWithTheTextThatTheyAreOf) {
  ApiFixture f;
  f.engine.SetAnswer("Good day.");
  const Json body = {
      {"input", "Hi"}, {"include", {"message.output_text.logprobs"}}, {"stream", true}};
  std::string streamed, whole;
  for (const Json& event : f.Post(kResponsesPath, body).Events()) {
    std::string* to = event["type"] == "response.output_text.delta"  ? &streamed
                      : event["type"] == "response.output_text.done" ? &whole
                                                                     : nullptr;
    if (to == nullptr) continue;
    for (const Json& entry : event["logprobs"]) *to += entry["token"].get<std::string>();
  }
  EXPECT_EQ(streamed, "Good day.");
  EXPECT_EQ(whole, "Good day.");
}

TEST(OpenAiResponsesTest, AResponseThatFailsSaysNothingOfItsUsage) {
  ApiFixture f({.automatic = false});
  f.engine.SetAnswer("Good day.");
  std::thread failing([&] {
    ASSERT_TRUE(f.engine.AwaitSubmitted(1));
    f.engine.Step(3);
    absl::SleepFor(absl::Milliseconds(50));  // the first events leave
    f.engine.FailAll(absl::UnavailableError("draining"));
    f.engine.Step();
  });
  const ApiAnswer answer = f.Post(kResponsesPath, Json{{"input", "Hi"}, {"stream", true}});
  failing.join();
  const size_t at = answer.body.find("data: {\"type\":\"response.failed\"");
  ASSERT_NE(at, std::string::npos) << answer.body;
  EXPECT_THAT(answer.body.substr(at), ::testing::HasSubstr("\"usage\":null"));
}

}  // namespace
}  // namespace mea::testing
