#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/interpreter.h"

namespace mea::jinja {

Bound::Bound(Interpreter& interpreter, std::string_view callee, const CallArgs& args,
             std::initializer_list<std::string_view> names, size_t required)
    : interpreter_(interpreter), callee_(callee) {
  values_.fill(Value::Missing());
  const std::string shown(callee);
  if (args.positional.size() > names.size()) {
    interpreter.Fail(absl::StrCat(shown, " takes at most ", names.size(), " arguments, not ",
                                  args.positional.size()));
    return;
  }
  std::copy(args.positional.begin(), args.positional.end(), values_.begin());
  for (const auto& [name, value] : args.named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) {
      interpreter.Fail(absl::StrCat(shown, " takes no argument \"", name, "\""));
      return;
    }
    Value& slot = values_[it - names.begin()];
    if (!slot.missing()) {
      interpreter.Fail(absl::StrCat(shown, " is given \"", name, "\" twice"));
      return;
    }
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i].missing()) continue;
    interpreter.Fail(
        absl::StrCat(shown, " needs the argument \"", std::string(*(names.begin() + i)), "\""));
    return;
  }
}

bool Bound::Truth(size_t i, bool otherwise) const {
  return values_[i].missing() ? otherwise : Truthy(values_[i]);
}

int64_t Bound::Int(size_t i, int64_t otherwise) {
  if (values_[i].missing() || values_[i].none()) return otherwise;
  if (values_[i].is_integer()) return values_[i].as_int();
  if (values_[i].undefined()) {
    interpreter_.FailUndefined(values_[i]);
  } else {
    interpreter_.Fail(absl::StrCat(std::string(callee_), " takes an integer, not a ",
                                   TypeName(values_[i]).data()));
  }
  return otherwise;
}

MarkedText Bound::Text(size_t i, std::string_view otherwise) {
  if (values_[i].missing()) return {std::string(otherwise), {}};
  if (values_[i].is_string()) return values_[i].marked();
  interpreter_.Fail(
      absl::StrCat(std::string(callee_), " takes a string, not a ", TypeName(values_[i]).data()));
  return {};
}

}  // namespace mea::jinja
