#include "engine/grammar/formats.h"

#include <map>

namespace mea::grammar {
namespace {

// An optional part is an empty branch, "(|x)": see WithoutOptionalGroups in regex_check. Each is
// deterministic if possible, so that no mask is slow: a label is letters and digits, then hyphens
// with more of these, not anything that happens to end with one.
std::map<std::string, std::string, std::less<>> MakePatterns() {
  const std::string date = R"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))";
  const std::string time =
      R"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d(|(\.)\d{1,9})(Z|[+-]([01]\d|2[0-3]):[0-5]\d))";
  const std::string label = "[A-Za-z0-9]+(-+[A-Za-z0-9]+)*";
  const std::string atoms = "[A-Za-z0-9_+-]+";
  const std::string byte = R"((25[0-5]|2[0-4]\d|1\d\d|[1-9]\d|\d))";
  const std::string group = "[0-9A-Fa-f]{1,4}";
  const std::string hex = "[0-9A-Fa-f]";
  const std::string uri_text = "([A-Za-z0-9._~:/?@!$&'()*+,;=-]|%" + hex + hex + ")*";

  const std::string clock = R"((T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)))";
  const std::string duration = std::string(R"(P(\d+W|(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D))") +
                               "(|" + clock + ")|" + clock + ")";

  std::string ipv6 = "((" + group + ":){7}" + group + "|(" + group + ":){1,7}:";
  for (int before = 6; before >= 1; --before) {
    ipv6 += "|(" + group + ":){1," + std::to_string(before) + "}(:" + group + "){1," +
            std::to_string(7 - before) + "}";
  }
  ipv6 += "|:((:" + group + "){1,7}|:))";

  return {{"date", date},
          {"time", time},
          {"date-time", date + "T" + time},
          {"duration", duration},
          {"email", atoms + R"((\.)" + atoms + ")*@" + label + R"((\.)" + label + ")+"},
          {"hostname", label + R"((\.)" + label + ")*"},
          {"ipv4", byte + R"((\.)" + byte + "){3}"},
          {"ipv6", ipv6},
          {"uri", "[A-Za-z][A-Za-z0-9+.-]*:" + uri_text + "(|#" + uri_text + ")"},
          {"uuid", hex + "{8}(-" + hex + "{4}){3}-" + hex + "{12}"},
          {"json-pointer", "(/([^/~]|~[01])*)*"}};
}

}  // namespace

std::optional<std::string> PatternOfFormat(std::string_view format) {
  static const std::map<std::string, std::string, std::less<>> patterns = MakePatterns();
  const auto it = patterns.find(format);
  return it == patterns.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace mea::grammar
