#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"

namespace mea::jinja {
namespace {

// Methods that would change a list or dict: the sandbox that chat templates run in hides them.
bool IsHidden(const Value& object, std::string_view name) {
  static constexpr std::string_view kOfDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  static constexpr std::string_view kOfList[] = {"append", "clear", "pop",    "reverse",
                                                 "insert", "sort",  "extend", "remove"};
  const auto in = [name](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (object.is_dict() && in(kOfDict)) || (object.Is(Kind::kList) && in(kOfList));
}

Value CycleLoop(Interpreter& in, const Value& self, const CallArgs& args) {
  if (args.positional.empty()) return in.Fail("loop.cycle() is given nothing");
  return args.positional[static_cast<size_t>(self.loop().index0) % args.positional.size()];
}

Value NextOfCycler(Interpreter&, const Value& self, const CallArgs&) {
  StatefulObject& cycler = self.stateful();
  const Value value = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return value;
}

Value ResetCycler(Interpreter&, const Value& self, const CallArgs&) {
  self.stateful().position = 0;
  return Value::None();
}

std::string ObjectName(const Value& object) {
  return object.none() ? "None" : absl::StrCat(TypeName(object).data(), " object");
}

}  // namespace

Value Interpreter::NoAttribute(const Value& object, const Value& name) {
  TextBuilder text;
  text.Add(absl::StrCat("'", ObjectName(object), "' has no ",
                        name.is_string() ? "attribute " : "element "));
  AddRepr(name, &text);
  return Value::Undefined(text.Take().text);
}

Value Interpreter::LoopChanged(Interpreter& in, const Value& self, const CallArgs& args) {
  Loop& loop = self.loop();
  bool same = loop.changed >= 0;
  if (same) {
    const std::vector<Value>& last = in.changed_[loop.changed];
    same = last.size() == args.positional.size();
    for (size_t i = 0; same && i < last.size(); ++i) same = in.Equal(last[i], args.positional[i]);
  } else {
    loop.changed = static_cast<int>(in.changed_.size());
    in.changed_.emplace_back();
  }
  if (!same) in.changed_[loop.changed] = args.positional;
  return Value::Bool(!same);
}

Value Interpreter::LoopAttribute(const Value& object, std::string_view name) {
  const Loop& loop = object.loop();
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value::Int(loop.index0 + 1);
  if (name == "index0") return Value::Int(loop.index0);
  if (name == "revindex") return Value::Int(length - loop.index0);
  if (name == "revindex0") return Value::Int(length - loop.index0 - 1);
  if (name == "first") return Value::Bool(loop.index0 == 0);
  if (name == "last") return Value::Bool(loop.index0 + 1 == length);
  if (name == "length") return Value::Int(length);
  if (name == "depth") return Value::Int(loop.depth0 + 1);
  if (name == "depth0") return Value::Int(loop.depth0);
  if (name == "previtem") {
    return loop.index0 == 0 ? Value::Undefined("there is no previous item")
                            : loop.items[loop.index0 - 1];
  }
  if (name == "nextitem") {
    return loop.index0 + 1 >= length ? Value::Undefined("there is no next item")
                                     : loop.items[loop.index0 + 1];
  }
  if (name == "cycle") return Value::Method(object, CycleLoop);
  if (name == "changed") return Value::Method(object, LoopChanged);
  return NoAttribute(object, Value::Constant(std::string(name)));
}

namespace {

// obj.name as in Python; missing if there is no such attribute.
Value PythonAttribute(const Value& object, std::string_view name) {
  const auto method = [&](MethodBody body) {
    return body == nullptr ? Value::Missing() : Value::Method(object, body);
  };
  switch (object.kind()) {
    case Kind::kString:
      return method(FindStringMethod(name));
    case Kind::kDict:
      return method(FindDictMethod(name));
    case Kind::kTuple:
      if (object.list().grouped && name == "grouper") return object.items()[0];
      if (object.list().grouped && name == "list") return object.items()[1];
      return method(name == "copy" ? nullptr : FindListMethod(name));
    case Kind::kRange:
      return method(name == "copy" ? nullptr : FindListMethod(name));
    case Kind::kList:
      return method(FindListMethod(name));
    case Kind::kNamespace: {
      const Value* value = object.name_space().Find(name);
      return value == nullptr ? Value::Missing() : *value;
    }
    case Kind::kCycler:
      if (name == "next") return method(NextOfCycler);
      if (name == "reset") return method(ResetCycler);
      if (name == "current") return object.stateful().items[object.stateful().position];
      return Value::Missing();
    case Kind::kMacro:
      if (name == "name") return Value::Constant(object.macro().stmt->text);
      return Value::Missing();
    default:
      return Value::Missing();
  }
}

}  // namespace

Value Interpreter::Attribute(const Value& object, std::string_view name) {
  if (object.undefined()) return FailUndefined(object);
  if (object.Is(Kind::kLoop)) return LoopAttribute(object, name);
  if (IsHidden(object, name) || name.starts_with("__")) {
    return Value::Undefined(absl::StrCat("access to attribute '", std::string(name), "' of '",
                                         TypeName(object).data(), "' object is unsafe."));
  }
  Value value = PythonAttribute(object, name);
  if (!value.missing()) return value;
  if (object.is_dict()) {
    if (const Value* found = object.dict().Find(name); found != nullptr) return *found;
  }
  return NoAttribute(object, Value::Constant(std::string(name)));
}

Value Interpreter::Item(const Value& object, const Value& key) {
  if (object.undefined()) return FailUndefined(object);
  if (object.is_dict()) {
    if (const Value* value = object.dict().Find(key); value != nullptr) return *value;
  } else if (key.is_integer() &&
             (object.is_string() || object.is_sequence() || object.Is(Kind::kRange))) {
    const int64_t length =
        object.is_string() ? object.string().length : static_cast<int64_t>(object.items().size());
    const int64_t index = key.as_int() < 0 ? key.as_int() + length : key.as_int();
    if (index >= 0 && index < length) {
      if (!object.is_string()) return object.items()[index];
      const std::string_view text = object.text();
      const bool ascii = length == static_cast<int64_t>(text.size());
      if (!ascii) Charge(index / kBytesPerStep);
      const size_t begin = ByteOffset(text, index, ascii);
      return Slice(object, begin, begin + CodePointSize(text[begin]));
    }
  }
  if (!key.is_string()) return NoAttribute(object, key);
  if (object.Is(Kind::kLoop)) return LoopAttribute(object, key.text());
  if (IsHidden(object, key.text())) return Attribute(object, key.text());
  Value value = PythonAttribute(object, key.text());
  return value.missing() ? NoAttribute(object, key) : value;
}

bool Interpreter::Iterable(const Value& value) const {
  return value.undefined() || value.is_string() || value.has_items() || value.is_dict() ||
         value.Is(Kind::kLoop);
}

std::vector<Value> Interpreter::Items(const Value& value) {
  std::vector<Value> items;
  if (failed() || value.undefined()) return items;
  if (value.Is(Kind::kIterator)) {
    auto& list = const_cast<ListObject&>(value.list());
    items.assign(list.items.begin() + static_cast<std::ptrdiff_t>(list.next), list.items.end());
    list.next = list.items.size();
  } else if (value.has_items()) {
    items = value.items();
  } else if (value.is_dict()) {
    for (const auto& entry : value.dict().entries) items.push_back(entry.key);
  } else if (value.is_string()) {
    if (!Charge(value.string().length)) return items;
    const std::string_view text = value.text();
    for (size_t at = 0; at < text.size() && !failed();) {
      const size_t next = at + CodePointSize(text[at]);
      TextBuilder character;
      character.Add(value.marked(), at, next);
      items.push_back(NewString(std::move(character)));
      at = next;
    }
  } else {
    Fail(absl::StrCat("a ", TypeName(value).data(), " cannot be iterated over"));
  }
  Charge(static_cast<int64_t>(items.size()) / 4);
  return items;
}

int64_t Interpreter::Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.string().length;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return static_cast<int64_t>(value.items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kLoop:
      return static_cast<int64_t>(value.loop().items.size());
    default:
      Fail(absl::StrCat("a ", TypeName(value).data(), " has no length"));
      return 0;
  }
}

}  // namespace mea::jinja
