#include "engine/text/jinja/value.h"

#include <absl/hash/hash.h>

#include <algorithm>
#include <cmath>

namespace mea::jinja {
namespace {

constexpr int kMaxHashedItems = 8;

int64_t CodePoints(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (c & 0xc0) != 0x80;
  return count;
}

template <typename T>
std::shared_ptr<T> StringLike(MarkedText text, Meter* meter) {
  auto object = std::make_shared<T>();
  object->length = CodePoints(text.text);
  object->text = std::move(text);
  object->Count(meter, static_cast<int64_t>(sizeof(T) + object->text.size() +
                                            object->text.inputs.size() * sizeof(ByteRange)));
  return object;
}

}  // namespace

Value Value::Float(double number) {
  Value value(Kind::kFloat);
  value.float_ = number;
  return value;
}

Value Value::BigInt(std::string digits) {
  Value value = Constant(std::move(digits));
  value.kind_ = Kind::kBigInt;
  return value;
}

Value Value::Undefined(std::string message) {
  Value value = Constant(std::move(message));
  value.kind_ = Kind::kUndefined;
  return value;
}

Value Value::String(MarkedText text, Meter* meter, bool safe) {
  Value value(Kind::kString);
  auto object = StringLike<StringObject>(std::move(text), meter);
  object->safe = safe;
  value.object_ = std::move(object);
  return value;
}

Value Value::Constant(std::string text) { return String({std::move(text), {}}, nullptr); }

Value Value::List(std::vector<Value> items, Meter* meter, Kind kind, std::string_view name) {
  Value value(kind);
  auto object = std::make_shared<ListObject>();
  for (const Value& item : items) object->depth = std::max(object->depth, item.depth() + 1);
  object->items = std::move(items);
  object->name = name;
  object->Count(meter,
                static_cast<int64_t>(sizeof(ListObject) + object->items.size() * sizeof(Value)));
  value.object_ = std::move(object);
  return value;
}

Value Value::Dict(std::shared_ptr<DictObject> dict, Meter* meter) {
  Value value(Kind::kDict);
  for (const auto& entry : dict->entries) {
    dict->depth = std::max({dict->depth, entry.key.depth() + 1, entry.value.depth() + 1});
  }
  dict->Count(meter, static_cast<int64_t>(sizeof(DictObject) +
                                          dict->entries.size() * 2 * sizeof(DictObject::Entry)));
  value.object_ = std::move(dict);
  return value;
}

Value Value::Of(Namespace* object) {
  Value value(Kind::kNamespace);
  value.pointer_ = object;
  return value;
}

Value Value::Of(const Macro* macro) {
  Value value(Kind::kMacro);
  value.pointer_ = const_cast<Macro*>(macro);
  return value;
}

Value Value::Of(const Function* function) {
  Value value(Kind::kFunction);
  value.pointer_ = const_cast<Function*>(function);
  return value;
}

Value Value::Of(std::shared_ptr<Loop> loop) {
  Value value(Kind::kLoop);
  value.object_ = std::move(loop);
  return value;
}

Value Value::Method(const Value& self, MethodBody body) {
  Value value(Kind::kMethod);
  auto object = std::make_shared<MethodObject>();
  object->self = self;
  object->body = body;
  object->depth = self.depth() + 1;
  value.object_ = std::move(object);
  return value;
}

Value Value::Stateful(Kind kind, std::shared_ptr<StatefulObject> state) {
  Value value(kind);
  for (const Value& item : state->items) state->depth = std::max(state->depth, item.depth() + 1);
  value.object_ = std::move(state);
  return value;
}

bool Value::has_items() const {
  return is_sequence() || kind_ == Kind::kRange || kind_ == Kind::kView || kind_ == Kind::kIterator;
}

const StringObject& Value::string() const { return static_cast<const StringObject&>(*object_); }
std::string_view Value::text() const { return string().text.text; }
const MarkedText& Value::marked() const { return string().text; }
bool Value::safe() const { return is_string() && string().safe; }
const ListObject& Value::list() const { return static_cast<const ListObject&>(*object_); }
const std::vector<Value>& Value::items() const { return list().items; }
const DictObject& Value::dict() const { return static_cast<const DictObject&>(*object_); }
const MethodObject& Value::method() const { return static_cast<const MethodObject&>(*object_); }
Loop& Value::loop() const { return static_cast<Loop&>(*object_); }
StatefulObject& Value::stateful() const { return static_cast<StatefulObject&>(*object_); }

const Value* DictObject::Find(std::string_view key) const {
  const auto [begin, end] = index_.equal_range(absl::HashOf(key));
  for (auto it = begin; it != end; ++it) {
    const Entry& entry = entries[it->second];
    if (entry.key.is_string() && entry.key.text() == key) return &entry.value;
  }
  return nullptr;
}

int DictObject::Index(const Value& key) const {
  const auto [begin, end] = index_.equal_range(HashOf(key));
  for (auto it = begin; it != end; ++it) {
    if (KeysEqual(entries[it->second].key, key)) return it->second;
  }
  return -1;
}

const Value* DictObject::Find(const Value& key) const {
  if (!Hashable(key)) return nullptr;
  const int at = Index(key);
  return at < 0 ? nullptr : &entries[at].value;
}

void DictObject::Set(const Value& key, const Value& value) {
  if (const int at = Index(key); at >= 0) {
    entries[at].value = value;
    return;
  }
  index_.emplace(HashOf(key), static_cast<int>(entries.size()));
  entries.push_back({key, value});
}

Value* Namespace::Find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_float() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return !value.items().empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    default:
      return true;
  }
}

std::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
    case Kind::kBigInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.safe() ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kView:
      return value.list().name;
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "";
}

bool Hashable(const Value& value) {
  if (value.Is(Kind::kList) || value.is_dict() || value.Is(Kind::kView)) return false;
  if (!value.Is(Kind::kTuple)) return true;
  return std::all_of(value.items().begin(), value.items().end(), [](const Value& item) {
    return !item.Is(Kind::kTuple) && Hashable(item);  // a tuple of tuples is never a key
  });
}

uint64_t HashOf(const Value& value) {
  if (value.is_string() || value.Is(Kind::kBigInt)) return absl::HashOf(value.text());
  if (value.is_number()) return absl::HashOf(value.as_float());  // 1, 1.0 and True are one key
  if (value.Is(Kind::kTuple)) {
    uint64_t hash = value.items().size();
    for (size_t i = 0; i < value.items().size() && i < kMaxHashedItems; ++i) {
      hash = absl::HashOf(hash, HashOf(value.items()[i]));
    }
    return hash;
  }
  return absl::HashOf(static_cast<int>(value.kind()));
}

bool KeysEqual(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? a.as_int() == b.as_int()
                                            : a.as_float() == b.as_float();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kString:
    case Kind::kBigInt:
      return a.text() == b.text();
    case Kind::kTuple:
      return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(),
                        KeysEqual);
    case Kind::kNone:
    case Kind::kUndefined:
      return true;
    default:
      return a.pointer() == b.pointer();
  }
}

}  // namespace mea::jinja
