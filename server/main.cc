#include <grpc/support/log.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_replace.h"
#include "server/build_info.h"
#include "server/cli/command.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

// Every failure is one line on stderr.
int Fail(int code, const std::string& command, std::string message) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  message = absl::StrReplaceAll(message, {{"\n", "; "}});
  std::fprintf(stderr, "%s: %s\n", command.c_str(), message.c_str());
  return code;
}

std::string CommandName(const CLI::App& program) {
  std::string name = "mea";
  for (auto chosen = program.get_subcommands(); !chosen.empty();
       chosen = chosen.front()->get_subcommands()) {
    name += " " + chosen.front()->get_name();
  }
  return name;
}

}  // namespace

int main(int argc, char** argv) {
  gpr_set_log_function([](gpr_log_func_args*) {});  // failures reach us as statuses

  CLI::App program("LLM inference whose KV cache holds only component heads", "mea");
  program.require_subcommand(0, 1);  // none is refused below: CLI11 would not name an unknown one
  program.set_version_flag("--version", mea::Version());
  program.get_formatter()->column_width(34);
  mea::Action action;
  mea::AddServe(program, action);
  mea::AddGenerate(program, action);
  mea::AddChat(program, action);
  mea::AddHealth(program, action);
  mea::AddInspect(program, action);
  mea::AddPlan(program, action);
  mea::AddEval(program, action);
  mea::AddConvert(program, action);
  mea::AddBench(program, action);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help, --version
    const std::string command = CommandName(program);
    return Fail(kUsage, command, std::string(error.what()) + " (see " + command + " --help)");
  }
  if (!action) {
    const std::string command = CommandName(program);
    return Fail(kUsage, command, "a command is required (see " + command + " --help)");
  }
  const absl::Status status = action();
  if (!status.ok()) return Fail(kFailure, CommandName(program), std::string(status.message()));
  return 0;
}
