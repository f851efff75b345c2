#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/chat/chat_template.h"
#include "engine/text/reply/reply_format.h"
#include "engine/text/tokenizer.h"

namespace mea {

// The text side of a checkpoint, as `mea serve` uses it.
struct TextFlags {
  std::string chat_template;  // a file in place of the checkpoint's template
  std::string tool_parser = "auto";
  std::string reasoning_parser = "auto";
};

struct LoadedText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat;  // null: the checkpoint has none
  ReplyFormat reply_format;
  std::vector<int32_t> reply_markers;  // its markers that are special tokens, sorted
};

// INVALID_ARGUMENT or NOT_FOUND with one line that names the file or flag.
absl::StatusOr<LoadedText> LoadText(const std::string& model_dir, const TextFlags& flags);

}  // namespace mea
