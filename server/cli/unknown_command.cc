#include "server/cli/unknown_command.h"

#include <filesystem>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "server/cli/words.h"

namespace mea {
namespace {

constexpr size_t kMaxCommandBytes = 64;  // longer ones have no suggestion

struct ForeignCommand {
  std::string_view names;  // separated by spaces
  std::string_view answer;
};

// Commands that users of vLLM, llama.cpp or Ollama try.
constexpr ForeignCommand kForeignCommands[] = {
    {"run start server up launch load", "mea serve DIR serves a checkpoint, mea chat talks to it"},
    {"pull download get fetch",
     "mea downloads nothing; hf download ORG/NAME --local-dir DIR gets a model, mea serve DIR "
     "serves it"},
    {"list ls models",
     "mea keeps no list of models; mea inspect DIR shows a checkpoint, curl HOST:8000/v1/models "
     "what a server serves"},
    {"ps status ping", "mea health asks a server whether it is SERVING"},
    {"stop kill down", "Ctrl-C or SIGTERM ends mea serve once its requests are finished"},
    {"show info", "mea inspect DIR shows what a checkpoint holds"},
    {"complete completion prompt ask", "mea generate completes a prompt on a server"},
    {"benchmark", "mea bench measures speed"},
    {"quantize", "mea serve --weight-dtype int4 --kv-dtype int8 serves in 4 and 8 bits"},
    {"keys key-new apikey", "mea key new makes an API key"},
    {"help", "mea --help lists the commands"},
    {"version", "mea --version shows it"},
};

std::string NearestCommand(const CLI::App& app, const std::string& word) {
  size_t least = std::min<size_t>(2, word.size() / 2) + 1;
  std::string nearest;
  for (const CLI::App* command : app.get_subcommands({})) {
    const size_t distance = EditDistance(word, command->get_name());
    if (distance >= least) continue;
    least = distance;
    nearest = command->get_name();
  }
  return nearest;
}

}  // namespace

std::string ExplainUnknownCommand(const CLI::App& app, const std::string& name) {
  const std::vector<std::string> rest = app.remaining();
  if (rest.empty() || rest.front().empty() || rest.front()[0] == '-') return "";
  if (app.get_subcommands({}).empty()) return "";
  const std::string& word = rest.front();
  const bool is_program = app.get_parent() == nullptr;
  const std::string shown = word.substr(0, kMaxCommandBytes);
  const std::string unknown_here = absl::StrCat("'", shown, "' is no command of ", name);
  for (const ForeignCommand& foreign : kForeignCommands) {
    if (!is_program || !HasWord(foreign.names, word)) continue;
    return absl::StrCat(unknown_here, ": ", std::string(foreign.answer));
  }
  std::error_code error;
  if (is_program && std::filesystem::is_directory(word, error)) {
    return absl::StrCat("a command is required: mea serve ", word, " serves the checkpoint there");
  }
  const std::string nearest = word.size() > kMaxCommandBytes ? "" : NearestCommand(app, word);
  if (!nearest.empty()) {
    return absl::StrCat(unknown_here, ": did you mean ", name, " ", nearest, "?");
  }
  return absl::StrCat(unknown_here, " (see ", name, " --help)");
}

}  // namespace mea
