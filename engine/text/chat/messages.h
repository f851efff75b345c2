#pragma once

#include <absl/status/statusor.h>

#include <string_view>

#include "engine/text/jinja/value.h"

namespace mea {

struct MessageOptions {
  std::string_view source;      // of the template: the roles that it names are taken as well
  bool takes_parts = false;     // the template iterates over the parts of a content
  bool parse_arguments = true;  // arguments of tool calls that are JSON texts become objects
  bool continue_final = false;  // mark the end of the last message: kContinueTag
};

// Marks the end of the last message in a rendered chat.
inline constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

struct ChatMessages {
  jinja::Value list;
  bool parsed_arguments = false;  // some arguments were texts
  std::string final_text;         // with continue_final: the text to continue
};

// The value of `messages`: null fields are removed, reasoning is stored under all of its names,
// contents of parts become what the template takes. A role is one of OpenAI's, or one that the
// template names between quotes: templates print any other without a word. Errors name the field:
// `messages[2].content[1].type "image_url" is not supported`.
absl::StatusOr<ChatMessages> ReadMessages(std::string_view json, const MessageOptions& options);

}  // namespace mea
