#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace mea {

// Lays out --help. CLI11's own prints the value of a negated flag ("--no-x{false}"), the ranges
// that errors name anyway, REQUIRED twice, and lines of any length.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace mea
