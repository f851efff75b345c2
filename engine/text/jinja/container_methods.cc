#include <absl/strings/str_cat.h>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"

// The methods of Python's dict, list and tuple that change nothing.
namespace mea::jinja {
namespace {

Value GetFromDict(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "get", args, {"key", "default"}, 1);
  if (!bound.ok()) return Value();
  if (!Hashable(bound[0])) {
    return in.Fail(absl::StrCat("a ", TypeName(bound[0]).data(), " cannot be a key"));
  }
  if (const Value* value = self.dict().Find(bound[0]); value != nullptr) return *value;
  return bound[1].missing() ? Value::None() : bound[1];
}

enum class View { kKeys, kValues, kItems };

template <View kView>
Value ViewOfDict(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "a view of a dict", args, {});
  if (!bound.ok()) return Value();
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries) {
    if (kView == View::kItems) {
      items.push_back(in.NewList({key, value}, Kind::kTuple));
    } else {
      items.push_back(kView == View::kKeys ? key : value);
    }
  }
  return in.NewList(std::move(items), Kind::kView,
                    kView == View::kKeys     ? "dict_keys"
                    : kView == View::kValues ? "dict_values"
                                             : "dict_items");
}

Value CopyOf(Interpreter&, const Value& self, const CallArgs&) { return self; }  // none changes

Value CountInList(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "count", args, {"value"}, 1);
  if (!bound.ok()) return Value();
  int64_t count = 0;
  for (const Value& item : self.items()) count += in.Equal(item, bound[0]);
  return Value::Int(count);
}

Value IndexInList(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "index", args, {"value"}, 1);
  if (!bound.ok()) return Value();
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (in.Equal(self.items()[i], bound[0])) return Value::Int(static_cast<int64_t>(i));
  }
  return in.Fail("the value is not in the list");
}

}  // namespace

MethodBody FindDictMethod(std::string_view name) {
  if (name == "get") return GetFromDict;
  if (name == "items") return ViewOfDict<View::kItems>;
  if (name == "keys") return ViewOfDict<View::kKeys>;
  if (name == "values") return ViewOfDict<View::kValues>;
  if (name == "copy") return CopyOf;
  return nullptr;
}

MethodBody FindListMethod(std::string_view name) {
  if (name == "count") return CountInList;
  if (name == "index") return IndexInList;
  if (name == "copy") return CopyOf;
  return nullptr;
}

}  // namespace mea::jinja
