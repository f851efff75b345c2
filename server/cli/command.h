#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace mea {

// What a subcommand does once the command line is read. Its failure is printed as one line.
using Action = std::function<absl::Status()>;

// Exit statuses of the program: success is 0.
inline constexpr int kFailure = 1;
inline constexpr int kUsage = 2;
inline constexpr int kLostPages = 3;   // a checkpoint was cut short while it was in use
inline constexpr int kPortSilent = 4;  // of serve: its ports do not answer, start it again

// The failure ends the program with `code`, not with kFailure.
absl::Status WithExitCode(absl::Status status, int code);
int ExitCodeOf(const absl::Status& status);

// Whether what was printed on stdout has gone where it should: disks are full at times.
absl::Status FlushOutput();

// Each adds one subcommand to the program; where it is called, it sets `action`.
void AddServe(CLI::App& program, Action& action);
void AddGenerate(CLI::App& program, Action& action);
void AddChat(CLI::App& program, Action& action);
void AddHealth(CLI::App& program, Action& action);
void AddInspect(CLI::App& program, Action& action);
void AddPlan(CLI::App& program, Action& action);
void AddEval(CLI::App& program, Action& action);
void AddConvert(CLI::App& program, Action& action);
void AddKey(CLI::App& program, Action& action);
void AddBench(CLI::App& program, Action& action);
// `mea bench serve`, of the program's bench.
void AddServeBench(CLI::App& bench, Action& action);

}  // namespace mea
