#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace mea {

// How a model writes tool calls into its text. README.md shows each format.
enum class ToolFormat {
  kNone,
  kHermes,
  kLlama3Json,
  kPythonic,
  kMistral,
  kMistralV11,
  kDeepSeekV3,
  kDeepSeekV31,
  kQwen3Coder,
  kSeedOss,
  kGlm,
  kKimiK2,
  kGranite,
  kCohere,
  kApertus,
  kLfm2,
  kFunctionary,
  kGemma4,
  kHarmony,
  kLast = kHarmony,
};

// How a model separates its reasoning from its answer.
enum class ReasoningFormat {
  kNone,
  kThinkTags,
  kSeedOss,
  kMistral,
  kCohere,
  kApertus,
  kGemma4,
  kHarmony,
  kLast = kHarmony,
};

struct ReplyFormat {
  ToolFormat tools = ToolFormat::kNone;
  ReasoningFormat reasoning = ReasoningFormat::kNone;

  bool operator==(const ReplyFormat&) const = default;
};

// The format that a model's chat template shows. kNone if it shows no known format.
ReplyFormat DetectReplyFormat(std::string_view chat_template);

// The format of the flags --tool-parser and --reasoning-parser: "auto" is `detected`, other names
// are vLLM's if it has one. INVALID_ARGUMENT names the value and the list.
absl::StatusOr<ReplyFormat> NamedReplyFormat(std::string_view tool_parser,
                                             std::string_view reasoning_parser,
                                             const ReplyFormat& detected);

// The names above for help texts, "auto, none, hermes, ..."; without their aliases.
std::string ToolParserNames();
std::string ReasoningParserNames();

// The name of a format; it is valid until the program ends.
std::string_view NameOf(ToolFormat format);
std::string_view NameOf(ReasoningFormat format);

// Texts that the parser must see even if the tokenizer calls them special tokens.
std::vector<std::string> MarkerTokens(const ReplyFormat& format);

// Whether a rendered prompt ends with an open reasoning block, so that the reply begins inside it.
bool EndsInReasoning(const ReplyFormat& format, std::string_view prompt);

// The format of calls that a grammar forces (tool_grammar.h), in which they must then be parsed:
// the model's own, or kHermes if it has none or no grammar can express it.
ReplyFormat ForcedFormat(const ReplyFormat& format);

}  // namespace mea
