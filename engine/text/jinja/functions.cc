#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"

namespace mea::jinja {
namespace {

Value RaiseException(Interpreter& in, const CallArgs& args) {
  Bound bound(in, "raise_exception", args, {"message"}, 1);
  if (!bound.ok()) return Value();
  TextBuilder message;
  in.AddStr(bound[0], &message);
  in.Raise(absl::InvalidArgumentError(message.Take().text));
  return Value();
}

Value StrftimeNow(Interpreter& in, const CallArgs& args) {
  Bound bound(in, "strftime_now", args, {"format"}, 1);
  const MarkedText format = bound.Text(0, "");
  if (!bound.ok()) return Value();
  if (format.size() > 1000) return in.Fail("the format of strftime_now exceeds 1000 bytes");
  return in.NewString(absl::FormatTime(format.text, in.now(), absl::LocalTimeZone()));
}

Value Range(Interpreter& in, const CallArgs& args) {
  Bound bound(in, "range", args, {"start", "stop", "step"}, 1);
  for (size_t i = 0; i < 3 && bound.ok(); ++i) {
    if (!bound[i].missing() && !bound[i].is_integer()) {
      if (bound[i].undefined()) return in.FailUndefined(bound[i]);
      return in.Fail(absl::StrCat("range takes integers, not a ", TypeName(bound[i]).data()));
    }
  }
  if (!bound.ok()) return Value();
  const bool one = bound[1].missing();
  const int64_t start = one ? 0 : bound[0].as_int();
  const int64_t stop = one ? bound[0].as_int() : bound[1].as_int();
  const int64_t step = bound.Int(2, 1);
  if (step == 0) return in.Fail("the step of a range is 0");
  const bool any = step > 0 ? start < stop : start > stop;
  const uint64_t distance =
      step > 0 ? uint64_t(stop) - uint64_t(start) : uint64_t(start) - uint64_t(stop);
  const uint64_t stride = step > 0 ? uint64_t(step) : uint64_t{0} - uint64_t(step);
  const uint64_t count = any ? (distance - 1) / stride + 1 : 0;
  if (count > uint64_t(kMaxRange)) {
    return in.Fail(absl::StrCat("a range has ", count, " items, more than ", kMaxRange));
  }
  if (!in.Charge(static_cast<int64_t>(count))) return Value();
  std::vector<Value> items;
  for (uint64_t i = 0; i < count; ++i) items.push_back(Value::Int(start + int64_t(i) * step));
  return in.NewList(std::move(items), Kind::kRange);
}

// The arguments of dict() and namespace(): a dict or pairs, then named values.
std::shared_ptr<DictObject> DictOf(Interpreter& in, std::string_view callee, const CallArgs& args) {
  auto dict = std::make_shared<DictObject>();
  if (args.positional.size() > 1) {
    in.Fail(absl::StrCat(callee.data(), " takes at most one positional argument"));
    return dict;
  }
  if (!args.positional.empty() && args.positional[0].is_dict()) {
    const auto& entries = args.positional[0].dict().entries;
    if (!in.Charge(static_cast<int64_t>(entries.size()))) return dict;
    for (const auto& [key, value] : entries) dict->Set(key, value);
  } else if (!args.positional.empty()) {
    for (const Value& item : in.Items(args.positional[0])) {
      const std::vector<Value> pair = in.Items(item);
      if (in.failed()) return dict;
      if (pair.size() != 2 || !Hashable(pair[0])) {
        in.Fail(absl::StrCat(callee.data(), " takes pairs of a key and a value"));
        return dict;
      }
      dict->Set(pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : args.named) dict->Set(in.NewString(name), value);
  return dict;
}

Value MakeDict(Interpreter& in, const CallArgs& args) {
  auto dict = DictOf(in, "dict", args);
  return in.failed() ? Value() : in.NewDict(std::move(dict));
}

Value MakeNamespace(Interpreter& in, const CallArgs& args) {
  const auto dict = DictOf(in, "namespace", args);
  if (in.failed()) return Value();
  Namespace* space = in.NewNamespace();
  for (const auto& [key, value] : dict->entries) {
    if (!key.is_string()) return in.Fail("the names of a namespace are strings");
    if (key.text().starts_with('_')) {
      return in.Fail(absl::StrCat("the attribute \"", std::string(key.text()),
                                  "\" of a namespace begins with _"));
    }
    space->attributes.emplace_back(std::string(key.text()), value);
  }
  return Value::Of(space);
}

// Within the bound on depth; otherwise destroying it would exhaust the stack.
Value Checked(Interpreter& in, Value value) {
  if (value.depth() <= kMaxValueDepth) return value;
  return in.Fail(absl::StrCat("values are nested more than ", kMaxValueDepth, " deep"));
}

Value MakeCycler(Interpreter& in, const CallArgs& args) {
  if (args.positional.empty()) return in.Fail("cycler is given nothing");
  auto state = std::make_shared<StatefulObject>();
  state->items = args.positional;
  state->Count(in.meter(), static_cast<int64_t>(state->items.size() * sizeof(Value)));
  return Checked(in, Value::Stateful(Kind::kCycler, std::move(state)));
}

Value MakeJoiner(Interpreter& in, const CallArgs& args) {
  Bound bound(in, "joiner", args, {"sep"});
  if (!bound.ok()) return Value();
  auto state = std::make_shared<StatefulObject>();
  state->items.push_back(bound[0].missing() ? Value::Constant(", ") : bound[0]);
  return Checked(in, Value::Stateful(Kind::kJoiner, std::move(state)));
}

Value Lipsum(Interpreter& in, const CallArgs&) { return in.Fail("lipsum is not supported"); }

constexpr Function kFunctions[] = {
    {"cycler", MakeCycler},
    {"dict", MakeDict},
    {"joiner", MakeJoiner},
    {"lipsum", Lipsum},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"range", Range},
    {"strftime_now", StrftimeNow},
};

}  // namespace

const Function* FindFunction(std::string_view name) {
  const auto* it = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                [name](const Function& function) { return function.name == name; });
  return it == std::end(kFunctions) ? nullptr : it;
}

}  // namespace mea::jinja
