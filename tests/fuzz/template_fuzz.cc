// A chat template, then messages, tools and kwargs, each behind a NUL.
#include <string>

#include "absl/status/status.h"
#include "engine/text/chat/chat_template.h"
#include "engine/text/reply/reply_format.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr int kMaxQuestions = 200;  // of whether it is still wanted: bounds the time of one input

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mea::fuzz::Input input(data, size);
  const size_t bits = input.Choose(4);
  const std::string source(input.Part());
  const auto chat =
      mea::ChatTemplate::Parse(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}}, "template");
  mea::DetectReplyFormat(source);
  if (!chat.ok()) {
    mea::fuzz::Require(!chat.status().message().empty(), "a refusal says why");
    return 0;
  }
  mea::ChatInput conversation;
  conversation.messages = input.Part();
  conversation.tools = input.Part();
  conversation.kwargs = input.Part();
  conversation.add_generation_prompt = (bits & 1) != 0;
  conversation.continue_final_message = bits == 2;
  int questions = 0;
  const auto rendered = (*chat)->Render(conversation, absl::UnixEpoch(), [&] {
    return ++questions > kMaxQuestions ? absl::CancelledError("long enough") : absl::OkStatus();
  });
  if (!rendered.ok()) return 0;
  size_t end = 0;
  for (const auto& [begin, range_end] : rendered->inputs) {
    mea::fuzz::Require(begin >= end && begin < range_end && range_end <= rendered->text.size(),
                       "marks are sorted, disjoint and inside the text");
    end = range_end;
  }
  return 0;
}
