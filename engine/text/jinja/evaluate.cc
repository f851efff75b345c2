#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"

namespace mea::jinja {

Value Interpreter::Variable(const Expr& expr, const Scope* scope) {
  for (; scope != nullptr; scope = scope->parent) {
    for (const auto& [name, value] : scope->variables) {
      if (name == expr.name) return value;
    }
  }
  if (const Function* function = program_.functions[expr.name]; function != nullptr) {
    return Value::Of(function);
  }
  return Value::Undefined(absl::StrCat("'", program_.names[expr.name], "' is undefined"));
}

// Small, because it is on the stack once for each level of nesting.
Value Interpreter::Evaluate(const Expr& expr, Scope* scope) {
  if (!Charge(1)) return Value();
  if (expr.kind == ExprKind::kConstant) return expr.value;
  if (expr.kind == ExprKind::kName) return Variable(expr, scope);
  const Depth depth(this);
  if (failed()) return Value();
  line_ = expr.line;
  return EvaluateDeep(expr, scope);
}

Value Interpreter::EvaluateDeep(const Expr& expr, Scope* scope) {
  switch (expr.kind) {
    case ExprKind::kList:
    case ExprKind::kTuple:
    case ExprKind::kDict:
      return Literal(expr, scope);
    case ExprKind::kNot:
    case ExprKind::kAnd:
    case ExprKind::kOr:
    case ExprKind::kCondition:
      return Logic(expr, scope);
    case ExprKind::kNegative:
    case ExprKind::kPositive:
      return Sign(expr, scope);
    case ExprKind::kBinary: {
      const Value a = Evaluate(*expr.kids[0], scope);
      const Value b = Evaluate(*expr.kids[1], scope);
      return failed() ? Value() : Binary(expr.operations[0], a, b);
    }
    case ExprKind::kCompare:
      return Compare(expr, scope);
    case ExprKind::kConcat:
      return Concat(expr, scope);
    case ExprKind::kAttribute: {
      const Value object = Evaluate(*expr.kids[0], scope);
      return failed() ? Value() : Attribute(object, expr.text);
    }
    case ExprKind::kItem: {
      const Value object = Evaluate(*expr.kids[0], scope);
      const Value key = Evaluate(*expr.kids[1], scope);
      return failed() ? Value() : Item(object, key);
    }
    case ExprKind::kSlice:
      return SliceOf(expr, scope);
    case ExprKind::kCall:
      return EvaluateCall(expr, scope, nullptr);
    case ExprKind::kFilter:
      return Filter(expr, scope, nullptr);
    case ExprKind::kTest:
      return Test(expr, scope);
    case ExprKind::kConstant:
    case ExprKind::kName:
      break;
  }
  return Value();
}

Value Interpreter::Literal(const Expr& expr, Scope* scope) {
  if (expr.kind != ExprKind::kDict) {
    std::vector<Value> items;
    for (const ExprPtr& kid : expr.kids) items.push_back(Evaluate(*kid, scope));
    return NewList(std::move(items), expr.kind == ExprKind::kList ? Kind::kList : Kind::kTuple);
  }
  auto dict = std::make_shared<DictObject>();
  for (size_t i = 0; i + 1 < expr.kids.size() && !failed(); i += 2) {
    const Value key = Evaluate(*expr.kids[i], scope);
    const Value value = Evaluate(*expr.kids[i + 1], scope);
    if (!Hashable(key)) return Fail(absl::StrCat("a ", TypeName(key).data(), " cannot be a key"));
    dict->Set(key, value);
  }
  return NewDict(std::move(dict));
}

Value Interpreter::Logic(const Expr& expr, Scope* scope) {
  const Value first = Evaluate(*expr.kids[0], scope);
  if (failed()) return Value();
  const bool truth = Truthy(first);
  switch (expr.kind) {
    case ExprKind::kNot:
      return Value::Bool(!truth);
    case ExprKind::kAnd:
      return truth ? Evaluate(*expr.kids[1], scope) : first;
    case ExprKind::kOr:
      return truth ? first : Evaluate(*expr.kids[1], scope);
    default:
      if (truth) return Evaluate(*expr.kids[1], scope);
      if (expr.kids[2] != nullptr) return Evaluate(*expr.kids[2], scope);
      return Value::Undefined(absl::StrCat("the inline if-expression on line ", expr.line,
                                           " evaluated to false and no else section was defined."));
  }
}

Value Interpreter::Sign(const Expr& expr, Scope* scope) {
  const Value value = Evaluate(*expr.kids[0], scope);
  if (failed()) return Value();
  if (value.undefined()) return FailUndefined(value);
  const bool negative = expr.kind == ExprKind::kNegative;
  if (value.Is(Kind::kFloat)) {
    return Value::Float(negative ? -value.as_float() : value.as_float());
  }
  if (!value.is_integer()) return Fail(absl::StrCat("a ", TypeName(value).data(), " has no sign"));
  return negative ? Arithmetic(Operation::kSubtract, Value::Int(0), value)
                  : Value::Int(value.as_int());
}

bool Interpreter::CompareOne(Operation operation, const Value& a, const Value& b) {
  switch (operation) {
    case Operation::kEqual:
      return Equal(a, b);
    case Operation::kNotEqual:
      return !Equal(a, b);
    case Operation::kLess:
      return Less(a, b);
    case Operation::kGreater:
      return Less(b, a);
    case Operation::kLessEqual:
      return Less(a, b) || (!failed() && Equal(a, b));
    case Operation::kGreaterEqual:
      return Less(b, a) || (!failed() && Equal(a, b));
    case Operation::kIn:
      return Contains(b, a);
    default:
      return !Contains(b, a);
  }
}

Value Interpreter::Compare(const Expr& expr, Scope* scope) {
  Value left = Evaluate(*expr.kids[0], scope);
  bool holds = true;
  for (size_t i = 0; i < expr.operations.size() && holds && !failed(); ++i) {
    Value right = Evaluate(*expr.kids[i + 1], scope);
    if (failed()) break;
    line_ = expr.line;
    holds = CompareOne(expr.operations[i], left, right);
    left = std::move(right);
  }
  return Value::Bool(holds);
}

Value Interpreter::Concat(const Expr& expr, Scope* scope) {
  TextBuilder text;
  for (const ExprPtr& kid : expr.kids) {
    const Value value = Evaluate(*kid, scope);
    if (failed()) return Value();
    AddStr(value, &text);
  }
  return NewString(std::move(text));
}

Value Interpreter::SliceOf(const Expr& expr, Scope* scope) {
  const Value object = Evaluate(*expr.kids[0], scope);
  int64_t bounds[3] = {0, 0, 1};
  bool given[3] = {};
  for (int i = 0; i < 3; ++i) {
    if (expr.kids[i + 1] == nullptr) continue;
    const Value bound = Evaluate(*expr.kids[i + 1], scope);
    if (failed()) return Value();
    if (bound.none()) continue;
    if (!bound.is_integer()) return Fail("the bounds of a slice are no integers");
    given[i] = true;
    bounds[i] = bound.as_int();
  }
  if (failed()) return Value();
  if (object.undefined()) return FailUndefined(object);
  const bool is_string = object.is_string();
  if (!is_string && !object.is_sequence() && !object.Is(Kind::kRange)) {
    return Fail(absl::StrCat("a ", TypeName(object).data(), " cannot be sliced"));
  }
  const int64_t step = bounds[2];
  if (step == 0) return Fail("the step of a slice is 0");
  const int64_t length =
      is_string ? object.string().length : static_cast<int64_t>(object.items().size());
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
  const auto place = [&](int i, int64_t otherwise) {
    if (!given[i]) return otherwise;
    const int64_t bound = bounds[i] < 0 ? bounds[i] + length : bounds[i];
    return std::clamp(bound, low, high);
  };
  const int64_t start = place(0, step > 0 ? low : high), stop = place(1, step > 0 ? high : low);

  if (is_string && step == 1) {
    const bool ascii = length == static_cast<int64_t>(object.text().size());
    const size_t begin = ByteOffset(object.text(), start, ascii);
    const size_t end = std::max(begin, ByteOffset(object.text(), stop, ascii));
    Charge(ascii ? 0 : static_cast<int64_t>(object.text().size()) / kBytesPerStep);
    return Slice(object, begin, end);
  }
  std::vector<Value> items;
  const std::vector<Value> all = is_string ? Items(object) : std::vector<Value>();
  const std::vector<Value>& from = is_string ? all : object.items();
  // Counted rather than compared with `stop`: start + step may overflow.
  const int64_t distance = step > 0 ? stop - start : start - stop;
  const uint64_t stride = step > 0 ? uint64_t(step) : uint64_t{0} - uint64_t(step);
  for (uint64_t i = 0; distance > 0 && i < uint64_t(distance) && !failed(); i += stride) {
    items.push_back(from[step > 0 ? start + int64_t(i) : start - int64_t(i)]);
    if (stride >= uint64_t(distance)) break;
  }
  if (!is_string) {
    return NewList(std::move(items), object.kind());
  }
  TextBuilder text;
  for (const Value& item : items) text.Add(item.marked());
  return NewString(std::move(text), object.safe());
}

CallArgs Interpreter::Arguments(const Expr& expr, Scope* scope) {
  CallArgs args;
  for (size_t i = 1; i < expr.kids.size(); ++i) {
    args.positional.push_back(Evaluate(*expr.kids[i], scope));
  }
  for (const auto& [name, value] : expr.named) {
    args.named.emplace_back(name, Evaluate(*value, scope));
  }
  if (expr.star != nullptr) {
    for (Value& item : Items(Evaluate(*expr.star, scope))) {
      args.positional.push_back(std::move(item));
    }
  }
  if (expr.star_star != nullptr) {
    const Value dict = Evaluate(*expr.star_star, scope);
    if (failed()) return args;
    if (!dict.is_dict()) {
      Fail(absl::StrCat("** is given a ", TypeName(dict).data(), ", not a dict"));
      return args;
    }
    for (const auto& [key, value] : dict.dict().entries) {
      if (!key.is_string()) {
        Fail("** is given a dict whose keys are not all strings");
        return args;
      }
      args.named.emplace_back(std::string(key.text()), value);
    }
  }
  absl::flat_hash_set<std::string_view> names;
  for (const auto& [name, value] : args.named) {
    if (names.insert(name).second) continue;
    Fail(absl::StrCat("the argument \"", name, "\" is given twice"));
  }
  return args;
}

Value Interpreter::EvaluateCall(const Expr& expr, Scope* scope, const Value* caller) {
  const Value callee = Evaluate(*expr.kids[0], scope);
  if (failed()) return Value();
  CallArgs args = Arguments(expr, scope);
  if (failed()) return Value();
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  line_ = expr.line;
  return Call(callee, std::move(args));
}

Value Interpreter::Call(const Value& callee, CallArgs args) {
  const Depth depth(this);
  if (!Charge(1)) return Value();
  switch (callee.kind()) {
    case Kind::kMacro:
      return CallMacro(callee.macro(), std::move(args));
    case Kind::kFunction:
      return callee.function().body(*this, args);
    case Kind::kMethod:
      return callee.method().body(*this, callee.method().self, args);
    case Kind::kLoop:
      return CallLoop(callee.loop(), args);
    case Kind::kJoiner: {
      StatefulObject& joiner = callee.stateful();
      return joiner.position++ == 0 ? Value::Constant("") : joiner.items[0];
    }
    case Kind::kUndefined:
      return FailUndefined(callee);
    default:
      return Fail(absl::StrCat("a ", TypeName(callee).data(), " is not callable"));
  }
}

Value Interpreter::ApplyFilter(std::string_view name, FilterBody filter, const Value& input,
                               const CallArgs& args) {
  if (failed()) return Value();
  if (filter == nullptr)
    return Fail(absl::StrCat("there is no filter \"", std::string(name), "\""));
  return filter(*this, input, args);
}

Value Interpreter::Filter(const Expr& expr, Scope* scope, const Value* input) {
  const Depth depth(this);
  Value value;
  if (expr.kids[0] == nullptr) {
    if (input != nullptr) value = *input;
  } else if (input != nullptr) {  // further filters of a block
    value = Filter(*expr.kids[0], scope, input);
  } else {
    value = Evaluate(*expr.kids[0], scope);
  }
  if (failed()) return Value();
  const CallArgs args = Arguments(expr, scope);
  line_ = expr.line;
  return ApplyFilter(expr.text, expr.filter, value, args);
}

Value Interpreter::Test(const Expr& expr, Scope* scope) {
  const Value value = Evaluate(*expr.kids[0], scope);
  if (failed()) return Value();
  const CallArgs args = Arguments(expr, scope);
  if (failed()) return Value();
  line_ = expr.line;
  if (expr.test == nullptr) return Fail(absl::StrCat("there is no test \"", expr.text, "\""));
  return Value::Bool(expr.test(*this, value, args));
}

}  // namespace mea::jinja
