#include "engine/convert/convert.h"

#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/convert/job.h"

namespace mea::convert {
namespace {

constexpr std::array<std::string_view, 4> kMethodNames = {"svd", "activation", "aligned", "rebase"};

}  // namespace

absl::StatusOr<Method> ParseMethod(std::string_view name) {
  for (size_t i = 0; i < kMethodNames.size(); ++i) {
    if (name == kMethodNames[i]) return static_cast<Method>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("method \"", std::string(name),
                                                 "\" is none of svd, activation, aligned, rebase"));
}

std::string_view MethodName(Method method) { return kMethodNames[static_cast<size_t>(method)]; }

absl::StatusOr<std::vector<int>> ParseInts(std::string_view flag, std::string_view text) {
  std::vector<int> numbers;
  if (text.empty()) return numbers;
  for (const auto part : absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    int number = 0;
    if (!absl::SimpleAtoi(part, &number)) {
      return absl::InvalidArgumentError(absl::StrCat(std::string(flag), " \"", std::string(text),
                                                     "\" is no number, nor a list like 6,6,5,4"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::StatusOr<ConvertReport> Convert(const ConvertOptions& options) {
  const absl::StatusOr<std::unique_ptr<Job>> job = Job::Open(options, /*profile_only=*/false);
  return job.ok() ? (*job)->Convert() : job.status();
}

absl::StatusOr<ConvertReport> ProfileLayers(const ConvertOptions& options) {
  const absl::StatusOr<std::unique_ptr<Job>> job = Job::Open(options, /*profile_only=*/true);
  return job.ok() ? (*job)->Profile() : job.status();
}

}  // namespace mea::convert
