#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"

namespace mea::jinja {
namespace {

std::string_view NameOf(Operation operation) {
  static constexpr std::string_view kNames[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kNames[static_cast<int>(operation)];
}

// a // b and a % b of Python: the remainder has the sign of b.
int64_t FloorDivided(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
double FloatModulo(double a, double b) {
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

bool IntPower(int64_t base, int64_t exponent, int64_t* result) {
  *result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(*result, base, result)) return false;
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return false;
  }
  return true;
}

}  // namespace

Value Interpreter::FailOperands(std::string_view operation, const Value& a, const Value& b) {
  if (a.undefined()) return FailUndefined(a);
  if (b.undefined()) return FailUndefined(b);
  return Fail(absl::StrCat(operation.data(), " is not defined for ", TypeName(a).data(), " and ",
                           TypeName(b).data()));
}

Value Interpreter::Arithmetic(Operation operation, const Value& a, const Value& b) {
  const bool divides = operation == Operation::kDivide || operation == Operation::kFloorDivide ||
                       operation == Operation::kModulo;
  if (divides && b.as_float() == 0) return Fail("division by zero");
  if (a.is_integer() && b.is_integer() && operation != Operation::kDivide &&
      !(operation == Operation::kPower && b.as_int() < 0)) {
    const int64_t x = a.as_int(), y = b.as_int();
    int64_t result = 0;
    bool fits = true;
    switch (operation) {
      case Operation::kAdd:
        fits = !__builtin_add_overflow(x, y, &result);
        break;
      case Operation::kSubtract:
        fits = !__builtin_sub_overflow(x, y, &result);
        break;
      case Operation::kMultiply:
        fits = !__builtin_mul_overflow(x, y, &result);
        break;
      case Operation::kFloorDivide:
        fits = y != -1 || x != INT64_MIN;
        if (fits) result = FloorDivided(x, y);
        break;
      case Operation::kModulo:
        result = y == -1 ? 0 : x - FloorDivided(x, y) * y;
        break;
      default:
        fits = IntPower(x, y, &result);
        break;
    }
    return fits ? Value::Int(result) : Fail("an integer exceeds 64 bits");
  }
  const double x = a.as_float(), y = b.as_float();
  switch (operation) {
    case Operation::kAdd:
      return Value::Float(x + y);
    case Operation::kSubtract:
      return Value::Float(x - y);
    case Operation::kMultiply:
      return Value::Float(x * y);
    case Operation::kDivide:
      return Value::Float(x / y);
    case Operation::kFloorDivide:
      return Value::Float(std::floor(x / y));
    case Operation::kModulo:
      return Value::Float(FloatModulo(x, y));
    default: {
      const double power = std::pow(x, y);
      if (x == 0 && y < 0) return Fail("0 cannot be raised to a negative power");
      if (std::isinf(power) && std::isfinite(x) && std::isfinite(y)) return Fail("** overflows");
      return Value::Float(power);
    }
  }
}

Value Interpreter::Binary(Operation operation, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return Arithmetic(operation, a, b);
  if (operation == Operation::kAdd) {
    if (a.is_string() && b.is_string()) {
      const bool safe = a.safe() || b.safe();
      TextBuilder text;
      text.Add(safe && !a.safe() ? Escaped(*this, a).marked() : a.marked());
      text.Add(safe && !b.safe() ? Escaped(*this, b).marked() : b.marked());
      return NewString(std::move(text), safe);
    }
    if (a.is_sequence() && a.kind() == b.kind()) {
      std::vector<Value> items = a.items();
      items.insert(items.end(), b.items().begin(), b.items().end());
      return NewList(std::move(items), a.kind());
    }
  }
  if (operation == Operation::kModulo && a.is_string()) return FormatPercent(*this, a, b);
  if (operation == Operation::kMultiply) {
    const bool first = a.is_string() || a.is_sequence();
    const Value& what = first ? a : b;
    const Value& times = first ? b : a;
    if ((what.is_string() || what.is_sequence()) && times.is_integer()) {
      const int64_t count = std::max<int64_t>(times.as_int(), 0);
      const auto size =
          static_cast<int64_t>(what.is_string() ? what.text().size() : what.items().size());
      if (size > 0 && count > static_cast<int64_t>(kMaxStringBytes) / size) {
        return Fail(absl::StrCat("repeating ", count, " times exceeds ", kMaxStringBytes));
      }
      // Appending has a cost even if the string is short.
      const int64_t steps =
          what.is_string() ? size * count / kBytesPerStep + count / 16 : size * count;
      if (!Charge(steps)) return Value();
      TextBuilder text;
      std::vector<Value> items;
      for (int64_t i = 0; size > 0 && i < count; ++i) {
        if (what.is_string()) {
          text.Add(what.marked());
        } else {
          items.insert(items.end(), what.items().begin(), what.items().end());
        }
      }
      if (what.is_string()) return NewString(std::move(text), what.safe());
      return NewList(std::move(items), what.kind());
    }
  }
  return FailOperands(NameOf(operation), a, b);
}

bool Interpreter::Equal(const Value& a, const Value& b) {
  if (!Charge(1)) return false;
  if (a.is_number() && b.is_number()) return KeysEqual(a, b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange: {
      if (a.items().size() != b.items().size()) return false;
      const Depth depth(this);
      for (size_t i = 0; i < a.items().size(); ++i) {
        if (!Equal(a.items()[i], b.items()[i])) return false;
      }
      return true;
    }
    case Kind::kDict: {
      if (a.dict().entries.size() != b.dict().entries.size()) return false;
      const Depth depth(this);
      for (const auto& [key, value] : a.dict().entries) {
        const Value* other = b.dict().Find(key);
        if (other == nullptr || !Equal(value, *other)) return false;
      }
      return true;
    }
    case Kind::kString:
      Charge(static_cast<int64_t>(std::min(a.text().size(), b.text().size())) / kBytesPerStep);
      [[fallthrough]];
    default:
      return KeysEqual(a, b);
  }
}

bool Interpreter::Less(const Value& a, const Value& b) {
  if (!Charge(1)) return false;
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? a.as_int() < b.as_int() : a.as_float() < b.as_float();
  }
  if (a.is_string() && b.is_string()) {
    Charge(static_cast<int64_t>(std::min(a.text().size(), b.text().size())) / kBytesPerStep);
    return a.text() < b.text();  // in UTF-8 bytes are ordered as code points are
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const Depth depth(this);
    const size_t common = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < common && !failed(); ++i) {
      if (!Equal(a.items()[i], b.items()[i])) return Less(a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size();
  }
  FailOperands("<", a, b);
  return false;
}

bool Interpreter::Contains(const Value& container, const Value& item) {
  if (failed()) return false;
  if (container.is_string()) {
    if (!item.is_string()) {
      FailOperands("in", item, container);
      return false;
    }
    Charge(static_cast<int64_t>(container.text().size()) / kBytesPerStep);
    return item.text().empty() || FindFirst(container.text(), item.text(), 0) != std::string::npos;
  }
  if (container.is_dict()) {
    if (!Hashable(item)) FailOperands("in", item, container);
    return container.dict().Find(item) != nullptr;
  }
  if (container.has_items() && !container.Is(Kind::kIterator)) {
    for (const Value& candidate : container.items()) {
      if (Equal(candidate, item)) return true;
      if (failed()) break;
    }
    return false;
  }
  if (!Iterable(container)) {
    FailOperands("in", item, container);
    return false;
  }
  const std::vector<Value> items = Items(container);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& candidate) { return Equal(candidate, item); });
}

Value Interpreter::Str(const Value& value) {
  if (value.is_string()) return value;
  TextBuilder text;
  AddStr(value, &text);
  return NewString(std::move(text));
}

}  // namespace mea::jinja
