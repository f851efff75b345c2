// Bodies of the OpenAI API: read, checked, prepared; answers to what was understood are JSON.
#include <string>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "server/openai/error.h"
#include "server/openai/json_reader.h"
#include "server/openai/parsed_request.h"
#include "server/prepare_prompt.h"
#include "server/proto_convert.h"
#include "tests/fuzz/fake_serving.h"
#include "tests/fuzz/fuzz.h"

namespace mea::openai {
namespace {

absl::StatusOr<ParsedRequest> Read(size_t kind, const Json& body) {
  const Serving& serving = fuzz::FakeServing();
  if (kind == 0) return ReadChatCompletion(body, "chatcmpl-1", serving);
  if (kind == 1) return ReadCompletion(body, "cmpl-1", serving);
  return ReadResponse(body, "resp-1", serving);
}

void RequireJson(const HttpAnswer& answer) {
  fuzz::Require(nlohmann::json::accept(answer.body), "an error is JSON");
  fuzz::Require(answer.code >= 400 && answer.code < 500, "the client's fault is a 4xx");
}

// One completion each: a piece of text with a call, then the end.
void TryAnswer(ParsedRequest& parsed) {
  Answer& answer = *parsed.answer;
  const int n = answer.info().n;
  for (int prompt = 0; prompt < answer.info().num_prompts; ++prompt) {
    answer.Add(prompt, PromptOutput{.num_tokens = 1});
    for (int i = 0; i < n; ++i) {
      DeltaOutput delta{.index = i, .text = "a\"", .token_ids = {97}};
      delta.reply = ReplyDelta{.content = "a\"", .tool_calls = {{0, "id", "f", "{}"}}};
      answer.Add(prompt, std::move(delta));
      answer.Add(prompt, FinishOutput{.index = i, .is_last = i + 1 == n});
    }
  }
  answer.End();
  const std::string text = answer.TakeText();
  fuzz::Require(!text.empty(), "there is an answer");
  fuzz::Require(parsed.stream || nlohmann::json::accept(text), "an answer is JSON");
}

}  // namespace
}  // namespace mea::openai

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mea;
  using namespace mea::openai;
  fuzz::Input input(data, size);
  const size_t kind = input.Choose(3);
  const auto body = ParseBody(input.Rest());
  if (!body.ok()) {
    RequireJson(ErrorAnswer(body.status(), {}));
    return 0;
  }
  auto parsed = Read(kind, *body);
  if (!parsed.ok()) {
    RequireJson(ErrorAnswer(parsed.status(), {}));
    return 0;
  }
  bool all = true;
  for (const v1::GenerateRequest& request : parsed->requests) {
    auto spec = FromProto(request, {.request_id = "fuzz"}, fuzz::FakeServing());
    absl::Status status = spec.status();
    if (spec.ok()) {
      status = PreparePrompt(
          fuzz::FakeServing(), [] { return absl::OkStatus(); }, *spec);
    }
    if (status.ok()) continue;
    RequireJson(ErrorAnswer(status, parsed->names));
    all = false;
  }
  if (all) TryAnswer(*parsed);
  return 0;
}
