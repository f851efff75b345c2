#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace mea {

// What a subcommand does once the command line is read. Its failure is printed as one line.
using Action = std::function<absl::Status()>;

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
