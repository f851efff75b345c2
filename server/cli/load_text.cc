#include "server/cli/load_text.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

absl::StatusOr<std::unique_ptr<const ChatTemplate>> LoadChat(const std::string& model_dir,
                                                             const std::string& path) {
  if (path.empty()) return ChatTemplate::Load(model_dir);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream source;
  if (!file || !(source << file.rdbuf())) {
    return absl::NotFoundError(
        absl::StrCat("--chat-template ", path, ": is empty or cannot be read"));
  }
  MEA_ASSIGN_OR_RETURN(SpecialTokens special_tokens, ChatTemplate::LoadSpecialTokens(model_dir));
  return ChatTemplate::Parse(source.str(), std::move(special_tokens), path);
}

}  // namespace

absl::StatusOr<LoadedText> LoadText(const std::string& model_dir, const TextFlags& flags) {
  LoadedText text;
  MEA_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Load(absl::StrCat(model_dir, "/tokenizer.json")));
  MEA_ASSIGN_OR_RETURN(text.chat, LoadChat(model_dir, flags.chat_template));
  const ReplyFormat detected =
      text.chat == nullptr ? ReplyFormat{} : DetectReplyFormat(text.chat->source());
  MEA_ASSIGN_OR_RETURN(auto format,
                       NamedReplyFormat(flags.tool_parser, flags.reasoning_parser, detected));
  text.reply_format = format;
  for (const std::string& marker : MarkerTokens(format)) {
    const std::optional<int32_t> id = text.tokenizer->TokenToId(marker);
    if (id && text.tokenizer->IsSpecial(*id)) text.reply_markers.push_back(*id);
  }
  std::sort(text.reply_markers.begin(), text.reply_markers.end());
  return text;
}

}  // namespace mea
