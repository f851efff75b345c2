#include "server/cli/help.h"

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace mea {
namespace {

constexpr size_t kLineWidth = 100;

// Wraps text into lines that begin at `indent` and end before kLineWidth.
std::string Wrap(const std::string& text, size_t indent) {
  std::string wrapped;
  size_t line_size = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (line_size > 0 && indent + line_size + 1 + word.size() > kLineWidth) {
      wrapped += '\n';
      line_size = 0;
    } else if (line_size > 0) {
      wrapped += ' ';
      ++line_size;
    }
    absl::StrAppend(&wrapped, word);
    line_size += word.size();
  }
  return wrapped;
}

// "--stream,--no-stream{false}" without the value.
std::string WithoutValues(std::string names) {
  for (size_t open; (open = names.find('{')) != names.npos;) {
    names.erase(open, names.find('}', open) - open + 1);
  }
  return names;
}

// " INT=0", " FILE ..."; without the list of allowed values, which is in the description.
std::string TypeAndDefault(const CLI::Option& option) {
  if (option.get_type_size() == 0) return "";  // a flag
  const std::string type = option.get_type_name();
  std::string text = absl::StrCat(" ", type.substr(0, type.find(":{")));
  if (!option.get_default_str().empty()) absl::StrAppend(&text, "=", option.get_default_str());
  if (option.get_expected_max() == CLI::detail::expected_max_vector_size) text += " ...";
  return text;
}

}  // namespace

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  const std::string name =
      is_positional ? option->get_name(true) : WithoutValues(option->get_name(false, true));
  std::string description = option->get_description();
  if (is_positional && option->get_required()) description += ", required";
  std::ostringstream out;
  CLI::detail::format_help(out, name + TypeAndDefault(*option),
                           Wrap(description, get_column_width()), get_column_width());
  return out.str();
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  std::ostringstream out;
  CLI::detail::format_help(out, command->get_name(),
                           Wrap(command->get_description(), get_column_width()),
                           get_column_width());
  return out.str();
}

}  // namespace mea
