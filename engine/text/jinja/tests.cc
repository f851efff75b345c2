#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_cat.h>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"

// The tests: what may follow "is".
namespace mea::jinja {
namespace {

Value Remainder(Interpreter& in, const Value& value, const Value& divisor) {
  return in.Binary(Operation::kModulo, value, divisor);
}

bool IsOdd(Interpreter& in, const Value& value, const CallArgs&) {
  const Value rest = Remainder(in, value, Value::Int(2));
  return !in.failed() && in.Equal(rest, Value::Int(1));
}

bool IsEven(Interpreter& in, const Value& value, const CallArgs&) {
  const Value rest = Remainder(in, value, Value::Int(2));
  return !in.failed() && in.Equal(rest, Value::Int(0));
}

bool IsDivisibleBy(Interpreter& in, const Value& value, const CallArgs& args) {
  Bound bound(in, "divisibleby", args, {"num"}, 1);
  if (!bound.ok()) return false;
  const Value rest = Remainder(in, value, bound[0]);
  return !in.failed() && in.Equal(rest, Value::Int(0));
}

template <bool kWanted>
bool IsDefined(Interpreter&, const Value& value, const CallArgs&) {
  return value.undefined() != kWanted;
}

template <Kind kKind>
bool IsKind(Interpreter&, const Value& value, const CallArgs&) {
  return value.Is(kKind);
}

template <bool kWanted>
bool IsBool(Interpreter&, const Value& value, const CallArgs&) {
  return value.Is(Kind::kBool) && value.as_bool() == kWanted;
}

bool IsInteger(Interpreter&, const Value& value, const CallArgs&) {
  return value.Is(Kind::kInt) || value.Is(Kind::kBigInt);
}

bool IsNumber(Interpreter&, const Value& value, const CallArgs&) {
  return value.is_number() || value.Is(Kind::kBigInt);
}

bool IsSequence(Interpreter&, const Value& value, const CallArgs&) {
  return value.is_string() || value.is_sequence() || value.is_dict() || value.Is(Kind::kRange) ||
         value.undefined();
}

bool IsIterable(Interpreter& in, const Value& value, const CallArgs&) { return in.Iterable(value); }

bool IsCallable(Interpreter&, const Value& value, const CallArgs&) {
  return value.Is(Kind::kMacro) || value.Is(Kind::kFunction) || value.Is(Kind::kMethod) ||
         value.Is(Kind::kLoop) || value.Is(Kind::kJoiner) || value.undefined();
}

template <bool kUpper>
bool IsInCase(Interpreter& in, const Value& value, const CallArgs&) {
  const Value text = in.Str(value);
  if (in.failed()) return false;
  return FindStringMethod(kUpper ? "isupper" : "islower")(in, text, {}).as_bool();
}

bool IsEscaped(Interpreter&, const Value& value, const CallArgs&) { return value.safe(); }

bool IsSameAs(Interpreter& in, const Value& value, const CallArgs& args) {
  Bound bound(in, "sameas", args, {"other"}, 1);
  if (!bound.ok() || value.kind() != bound[0].kind()) return false;
  return value.object() == nullptr ? in.Equal(value, bound[0])
                                   : value.pointer() == bound[0].pointer();
}

bool IsIn(Interpreter& in, const Value& value, const CallArgs& args) {
  Bound bound(in, "in", args, {"seq"}, 1);
  return bound.ok() && in.Contains(bound[0], value);
}

template <Operation kOperation>
bool Compares(Interpreter& in, const Value& value, const CallArgs& args) {
  Bound bound(in, "a comparison", args, {"other"}, 1);
  if (!bound.ok()) return false;
  const Value& other = bound[0];
  switch (kOperation) {
    case Operation::kEqual:
      return in.Equal(value, other);
    case Operation::kNotEqual:
      return !in.Equal(value, other);
    case Operation::kLess:
      return in.Less(value, other);
    case Operation::kGreater:
      return in.Less(other, value);
    case Operation::kLessEqual:
      return in.Less(value, other) || (!in.failed() && in.Equal(value, other));
    default:
      return in.Less(other, value) || (!in.failed() && in.Equal(value, other));
  }
}

bool IsFilter(Interpreter&, const Value& value, const CallArgs&) {
  return value.is_string() && FindFilter(value.text()) != nullptr;
}

bool IsTest(Interpreter&, const Value& value, const CallArgs&) {
  return value.is_string() && FindTest(value.text()) != nullptr;
}

}  // namespace

TestBody FindTest(std::string_view name) {
  static const absl::flat_hash_map<std::string_view, TestBody> tests = {
      {"!=", Compares<Operation::kNotEqual>},
      {"<", Compares<Operation::kLess>},
      {"<=", Compares<Operation::kLessEqual>},
      {"==", Compares<Operation::kEqual>},
      {">", Compares<Operation::kGreater>},
      {">=", Compares<Operation::kGreaterEqual>},
      {"boolean", IsKind<Kind::kBool>},
      {"callable", IsCallable},
      {"defined", IsDefined<true>},
      {"divisibleby", IsDivisibleBy},
      {"eq", Compares<Operation::kEqual>},
      {"equalto", Compares<Operation::kEqual>},
      {"escaped", IsEscaped},
      {"even", IsEven},
      {"false", IsBool<false>},
      {"filter", IsFilter},
      {"float", IsKind<Kind::kFloat>},
      {"ge", Compares<Operation::kGreaterEqual>},
      {"greaterthan", Compares<Operation::kGreater>},
      {"gt", Compares<Operation::kGreater>},
      {"in", IsIn},
      {"integer", IsInteger},
      {"iterable", IsIterable},
      {"le", Compares<Operation::kLessEqual>},
      {"lessthan", Compares<Operation::kLess>},
      {"lower", IsInCase<false>},
      {"lt", Compares<Operation::kLess>},
      {"mapping", IsKind<Kind::kDict>},
      {"ne", Compares<Operation::kNotEqual>},
      {"none", IsKind<Kind::kNone>},
      {"number", IsNumber},
      {"odd", IsOdd},
      {"sameas", IsSameAs},
      {"sequence", IsSequence},
      {"string", IsKind<Kind::kString>},
      {"test", IsTest},
      {"true", IsBool<true>},
      {"undefined", IsDefined<false>},
      {"upper", IsInCase<true>},
  };
  const auto it = tests.find(name);
  return it == tests.end() ? nullptr : it->second;
}

}  // namespace mea::jinja
