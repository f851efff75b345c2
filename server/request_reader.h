#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/field_error.h"
#include "server/request_ranges.h"

namespace mea {

// Checks the fields of a request one after the other and keeps the first error.
class RequestReader {
 public:
  explicit RequestReader(int vocab_size) : vocab_size_(vocab_size) {}

  void Refuse(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  // `parts` say what is wrong: "is empty".
  template <typename... Parts>
  void Invalid(std::string_view field, const Parts&... parts) {
    Refuse(FieldError(field, absl::StrCat(parts...)));
  }
  template <typename T>
  T Value(const FieldRange& range, T value) {
    Refuse(CheckRange(range, value));
    return value;
  }
  template <typename T>
  T ValueOr(const FieldRange& range, bool has, T value, T unset) {
    return has ? Value(range, value) : unset;
  }
  void TokenId(std::string_view field, int32_t id, const char* what = "") {
    if (id >= 0 && id < vocab_size_) return;
    Invalid(field, what, id, " is outside the vocabulary 0..", vocab_size_ - 1);
  }
  template <typename Ids>
  std::vector<int32_t> TokenIds(const char* field, const Ids& ids) {
    for (int i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= vocab_size_) TokenId(absl::StrCat(field, "[", i, "]"), ids[i]);
    }
    return {ids.begin(), ids.end()};
  }
  void AtMost(std::string_view field, int64_t count, int64_t most, const char* unit) {
    if (count > most) Invalid(field, "has ", count, " ", unit, ", the most is ", most);
  }

  const absl::Status& status() const { return status_; }

 private:
  const int vocab_size_;
  absl::Status status_;
};

}  // namespace mea
