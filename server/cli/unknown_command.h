#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace mea {

// What to say of the first argument of `app`, which has commands and was not called with one of
// them: the command that is meant, of other programs' names too, or a directory to serve. `name` is
// that of `app`. Empty where the argument is missing or a flag.
std::string ExplainUnknownCommand(const CLI::App& app, const std::string& name);

}  // namespace mea
