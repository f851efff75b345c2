#include "server/cli/inspect_text.h"

#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/text/chat/chat_template.h"
#include "engine/text/reply/reply_format.h"
#include "engine/text/tokenizer.h"

namespace mea {
namespace {

void AddLine(const char* label, const std::string& value, std::string& text) {
  absl::StrAppendFormat(&text, "%-14s %s\n", label, value);
}

void AddError(const char* label, const absl::Status& status, std::string& text) {
  AddLine(label, absl::StrCat("cannot be served: ", std::string(status.message())), text);
}

// "<|im_end|> (2)".
std::string TokenText(const Tokenizer* tokenizer, int32_t id) {
  const std::string token = tokenizer == nullptr ? "" : std::string(tokenizer->IdToToken(id));
  return token.empty() ? absl::StrCat(id) : absl::StrCat(token, " (", id, ")");
}

std::string TokenizerText(const Tokenizer& tokenizer) {
  int num_special = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) num_special += tokenizer.IsSpecial(id);
  return absl::StrCat(std::string(tokenizer.kind()), ", ", tokenizer.vocab_size(), " tokens, ",
                      num_special, " of them special");
}

// "bos_token <s> (1), eos_token </s> (2)".
std::string SpecialTokensText(const SpecialTokens& tokens, const Tokenizer* tokenizer) {
  return absl::StrJoin(tokens, ", ", [&](std::string* out, const auto& entry) {
    const auto id = tokenizer == nullptr ? std::nullopt : tokenizer->TokenToId(entry.second);
    absl::StrAppend(out, entry.first, " ", id ? TokenText(tokenizer, *id) : entry.second);
  });
}

// "chat_template.jinja; tool_use: additional_chat_templates/tool_use.jinja".
std::string TemplatesText(const ChatTemplate& chat, const std::filesystem::path& dir) {
  std::vector<std::string> texts;
  for (const auto& [name, file] : chat.origins()) {
    const std::string where = std::filesystem::path(file).lexically_relative(dir).string();
    texts.push_back(name == "default" ? where : absl::StrCat(name, ": ", where));
  }
  return absl::StrJoin(texts, "; ");
}

void AddChat(const ChatTemplate* chat, const std::filesystem::path& dir, std::string& text) {
  if (chat == nullptr) {
    return AddLine("chat template", "none; mea serve --chat-template FILE gives one", text);
  }
  AddLine("chat template", TemplatesText(*chat, dir), text);
  const ReplyFormat format = DetectReplyFormat(chat->source());
  AddLine("tool calls", std::string(NameOf(format.tools)), text);
  AddLine("reasoning", std::string(NameOf(format.reasoning)), text);
}

}  // namespace

std::string InspectText(const Checkpoint& checkpoint) {
  const std::string dir = checkpoint.dir.string();
  std::string text;
  const auto loaded = Tokenizer::Load(absl::StrCat(dir, "/tokenizer.json"));
  const Tokenizer* tokenizer = loaded.ok() ? loaded->get() : nullptr;
  if (loaded.ok()) {
    AddLine("tokenizer", TokenizerText(*tokenizer), text);
  } else {
    AddError("tokenizer", loaded.status(), text);
  }
  const auto special = ChatTemplate::LoadSpecialTokens(dir);
  if (special.ok() && !special->empty()) {
    AddLine("special tokens", SpecialTokensText(*special, tokenizer), text);
  }
  const auto token_text = [&](std::string* out, int32_t id) {
    absl::StrAppend(out, TokenText(tokenizer, id));
  };
  AddLine("ends with", absl::StrJoin(checkpoint.generation.eos_token_ids, ", ", token_text), text);
  const auto chat = ChatTemplate::Load(dir);
  if (chat.ok()) {
    AddChat(chat->get(), checkpoint.dir, text);
  } else {
    AddError("chat template", chat.status(), text);
  }
  return text;
}

}  // namespace mea
