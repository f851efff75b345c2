#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace mea {

// What to say of the first flag that `command` does not have: what it is called here, for one that
// users of vLLM or llama.cpp type; else the flag that is spelled most like it. Empty where all
// flags are known. `name` is the command's with its parents', "mea serve".
std::string ExplainUnknownFlag(const CLI::App& command, const std::string& name);

}  // namespace mea
