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
// sorted, disjoint, none empty. EncodeOptions::literal takes these ranges.
struct RenderedChat {
  std::string text;
  std::vector<std::pair<size_t, size_t>> inputs;
};

// The input of a template: JSON texts as the request had them, with their key order.
struct ChatInput {
  std::string messages;       // an array of objects
  std::string tools;          // an array; empty: none
  std::string documents;      // an array; empty: none
  std::string kwargs;         // an object of further variables, as enable_thinking; empty: none
  std::string template_name;  // of several; empty: "tool_use" if there are tools, else "default"
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

// "bos_token", ...: the special tokens that a template may print.
using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

// The chat templates of a checkpoint, rendered as transformers' apply_chat_template renders them
// (5.24: null fields of a message are absent, reasoning is available under all of its names).
// Immutable: any number of threads.
class ChatTemplate {
 public:
  // Looks where transformers looks: chat_template.jinja and additional_chat_templates/*.jinja, else
  // "chat_template" in tokenizer_config.json, else chat_template.json. Null if there is none. A
  // template that cannot be parsed is INVALID_ARGUMENT with file and line.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Load(const std::string& model_dir);
  // One template, given by a file or a flag; LoadSpecialTokens has those of a checkpoint. `name`
  // stands for it in messages.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Parse(std::string source,
                                                                   SpecialTokens special_tokens,
                                                                   const std::string& name);
  // The special tokens of a checkpoint; empty if it names none.
  static absl::StatusOr<SpecialTokens> LoadSpecialTokens(const std::string& model_dir);
  ~ChatTemplate();

  // Errors are INVALID_ARGUMENT: what is wrong with the request, with the field and its index; what
  // the template gave to raise_exception, as it is; a line of the template that cannot be rendered.
  // `interrupted` is called every few thousand steps; its error ends the rendering.
  absl::StatusOr<RenderedChat> Render(const ChatInput& input, absl::Time now,
                                      absl::FunctionRef<absl::Status()> interrupted) const;

  // The source of a template; of the default one (or the only one) without a name; empty if there
  // is no such template. The formats of tool calls and reasoning are detected from it.
  std::string_view source(std::string_view name = "") const;
  // Name and place of every template: {"default", "DIR/tokenizer_config.json: chat_template"}.
  std::vector<std::pair<std::string, std::string>> origins() const;
  // Whether that template iterates over the parts of a message's content. Others get the texts of
  // the parts as one string, joined by newlines.
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
