#include "server/field_error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr char kFieldPayload[] = "mea/field";
constexpr char kQuotesPayload[] = "mea/quotes";

}  // namespace

absl::Status FieldError(std::string_view field, std::string_view problem) {
  const std::string path(field);
  return WithField(absl::InvalidArgumentError(absl::StrCat(path, " ", std::string(problem))), path);
}

absl::Status WithField(const absl::Status& status, std::string_view field) {
  absl::Status with_field = status;
  with_field.SetPayload(kFieldPayload, absl::Cord(std::string(field)));
  return with_field;
}

absl::Status Quoting(const absl::Status& status) {
  absl::Status quoting = status;
  quoting.SetPayload(kQuotesPayload, absl::Cord());
  return quoting;
}

bool Quotes(const absl::Status& status) { return status.GetPayload(kQuotesPayload).has_value(); }

std::optional<std::string> FieldOf(const absl::Status& status) {
  const auto field = status.GetPayload(kFieldPayload);
  if (!field) return std::nullopt;
  return std::string(*field);
}

}  // namespace mea
