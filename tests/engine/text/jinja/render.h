#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/parser.h"

namespace mea::jinja {

// Renders `source` with the variables of a JSON object, whose strings are inputs.
inline absl::StatusOr<MarkedText> RenderWith(
    std::string_view source, std::string_view variables,
    absl::FunctionRef<absl::Status()> interrupted = [] { return absl::OkStatus(); }) {
  auto program = ParseTemplate(source);
  if (!program.ok()) return program.status();
  auto values = ParseJsonValue(variables, true);
  if (!values.ok()) return values.status();
  std::vector<std::pair<std::string, Value>> named;
  for (const auto& [key, value] : values->dict().entries) {
    named.emplace_back(std::string(key.text()), value);
  }
  return Interpreter(**program, {.now = absl::UnixEpoch(), .interrupted = interrupted}).Run(named);
}

// The text with its inputs in brackets; the error where there is one.
inline std::string Bracketed(std::string_view source, std::string_view variables) {
  const absl::StatusOr<MarkedText> made = RenderWith(source, variables);
  if (!made.ok()) return std::string(made.status().message());
  std::string shown;
  size_t done = 0;
  for (const auto& [begin, end] : made->inputs) {
    shown += made->text.substr(done, begin - done) + "[";
    shown += made->text.substr(begin, end - begin) + "]";
    done = end;
  }
  return shown + made->text.substr(done);
}

}  // namespace mea::jinja
