#include "server/cli/size.h"

#include <cmath>
#include <cstdint>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/human_bytes.h"

namespace mea {

namespace {

std::optional<int64_t> ParseSize(const std::string& text) {
  const size_t digits = text.find_first_not_of("0123456789.");
  double number = 0;
  if (!absl::SimpleAtod(text.substr(0, digits), &number)) return std::nullopt;
  std::string unit = digits == text.npos ? "" : text.substr(digits);
  absl::StripAsciiWhitespace(&unit);
  absl::AsciiStrToLower(&unit);
  if (!unit.empty() && unit != "b") {
    const size_t power = std::string("kmgt").find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string::npos ||
        (!rest.empty() && rest != "b" && rest != "i" && rest != "ib")) {
      return std::nullopt;
    }
    number *= std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  constexpr double kMostBytes = 1e18;
  if (!(number <= kMostBytes)) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

CLI::Validator SizeInBytes() {
  const auto transform = [](std::string& text) -> std::string {
    const std::optional<int64_t> bytes = ParseSize(text);
    if (!bytes) {
      return absl::StrCat("'", text, "' is not a size such as 512MiB, 4GiB, 4Gi, 4G or 4GB");
    }
    text = absl::StrCat(*bytes);
    return "";
  };
  return CLI::Validator(transform, "");
}

std::string MachineText(const MachineLimits& machine) {
  return absl::StrCat(HumanBytes(machine.memory_bytes), " of memory (", machine.memory_source,
                      "), ", HumanBytes(machine.available_bytes), " available, ", machine.cpus,
                      machine.cpus == 1 ? " thread (" : " threads (", machine.cpus_source, ")");
}

}  // namespace mea
