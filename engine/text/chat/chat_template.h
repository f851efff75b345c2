#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mea {

// A rendered conversation, and which of its bytes came from the request: ranges [begin, end),
// sorted, disjoint, none empty. They are what EncodeOptions::literal takes.
struct RenderedChat {
  std::string text;
  std::vector<std::pair<size_t, size_t>> inputs;
};

// What a template is given: JSON texts as the request had them, whose key order is kept.
struct ChatInput {
  std::string messages;       // an array of objects
  std::string tools;          // an array; empty: none
  std::string documents;      // an array; empty: none
  std::string kwargs;         // an object of further variables, as enable_thinking; empty: none
  std::string template_name;  // of several; empty: "tool_use" where there are tools, or "default"
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

// "bos_token", ...: what a template may print of a tokenizer's special tokens.
using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

// The chat templates of a checkpoint, rendered as transformers' apply_chat_template renders them
// (5.24: a message's null fields are absent, reasoning goes by all of its names). Immutable: any
// number of threads.
class ChatTemplate {
 public:
  // Looks where transformers looks: chat_template.jinja and additional_chat_templates/*.jinja, else
  // "chat_template" in tokenizer_config.json, else chat_template.json. Null where there is none. A
  // template that cannot be read is INVALID_ARGUMENT with file and line.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Load(const std::string& model_dir);
  // One template that a file or a flag gives; LoadSpecialTokens has those of a checkpoint. `name`
  // stands for it in messages.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Parse(std::string source,
                                                                   SpecialTokens special_tokens,
                                                                   const std::string& name);
  // The special tokens of a checkpoint; empty where it names none.
  static absl::StatusOr<SpecialTokens> LoadSpecialTokens(const std::string& model_dir);
  ~ChatTemplate();

  // Errors are INVALID_ARGUMENT: what is wrong with the request, with the field and its index; what
  // the template gave to raise_exception, as it is; a line of the template that cannot be rendered.
  // `interrupted` is asked every few thousand steps; its error ends the rendering.
  absl::StatusOr<RenderedChat> Render(const ChatInput& input, absl::Time now,
                                      absl::FunctionRef<absl::Status()> interrupted) const;

  // The source of a template; of the default one (or the only one) without a name; empty if there
  // is no such template. What a model's tool calls and reasoning look like is told from it.
  std::string_view source(std::string_view name = "") const;
  // Name and place of every template: {"default", "DIR/tokenizer_config.json: chat_template"}.
  std::vector<std::pair<std::string, std::string>> origins() const;
  // Whether that template goes through the parts of a message's content. Others are given the texts
  // of the parts as one string, joined by newlines.
  bool takes_parts(std::string_view name = "") const;

 private:
  struct Entry;
  ChatTemplate();
  absl::Status Add(const std::string& name, std::string source, const std::string& file);
  absl::StatusOr<const Entry*> Choose(const ChatInput& input) const;
  const Entry* Find(std::string_view name) const;

  std::vector<std::unique_ptr<const Entry>> entries_;
  SpecialTokens special_tokens_;
};

}  // namespace mea
