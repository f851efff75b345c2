#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/text/jinja/marked_text.h"

namespace mea::jinja {

class Interpreter;
class Value;
struct CallArgs;
struct Loop;
struct Macro;
struct Namespace;

// Bytes held by the values of one run. Values of the template itself and of the request are not
// counted: other limits bound them.
struct Meter {
  int64_t live_bytes = 0;
};

// What a Value points to. Immutable, except for iterators.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() {
    if (meter != nullptr) meter->live_bytes -= bytes;
  }
  void Count(Meter* by, int64_t num_bytes) {
    meter = by;
    bytes = num_bytes;
    if (meter != nullptr) meter->live_bytes += bytes;
  }

  Meter* meter = nullptr;
  int64_t bytes = 0;
  int depth = 1;  // one more than the deepest value inside
};

enum class Kind : uint8_t {
  kMissing,    // an argument that was not given; never seen by a template
  kUndefined,  // jinja2's Undefined
  kNone,
  kBool,
  kInt,
  kBigInt,  // an integer of the request beyond 64 bits: printed as it came, not usable in
            // arithmetic
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,      // dict.keys(), .values(), .items()
  kIterator,  // a generator: can be read once
  kNamespace,
  kMacro,
  kFunction,  // range, dict, namespace, ...
  kMethod,    // of a string or dict
  kLoop,
  kCycler,
  kJoiner,
};

using FunctionBody = Value (*)(Interpreter&, const CallArgs&);
using MethodBody = Value (*)(Interpreter&, const Value& self, const CallArgs&);

struct StringObject;
struct ListObject;
struct DictObject;
struct MethodObject;
struct StatefulObject;

// A Python value, as far as templates use them. Cheap to copy. Namespaces and macros belong to the
// Interpreter of the run; only values of the template and the request outlive it.
class Value {
 public:
  Value() : kind_(Kind::kUndefined) {}
  static Value Missing() { return Value(Kind::kMissing); }
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value) { return Value(Kind::kBool, value); }
  static Value Int(int64_t value) { return Value(Kind::kInt, value); }
  static Value Float(double value);
  static Value BigInt(std::string digits);
  // `message` is the error for using the undefined value.
  static Value Undefined(std::string message);
  static Value String(MarkedText text, Meter* meter, bool safe = false);
  static Value Constant(std::string text);  // a string of the template or of messages
  // kList, kTuple, kRange, kIterator; for kView `name` is its Python type.
  static Value List(std::vector<Value> items, Meter* meter, Kind kind = Kind::kList,
                    std::string_view name = "");
  static Value Dict(std::shared_ptr<DictObject> dict, Meter* meter);
  static Value Of(Namespace* value);
  static Value Of(const Macro* value);
  static Value Of(const struct Function* value);
  static Value Of(std::shared_ptr<Loop> value);
  static Value Method(const Value& self, MethodBody body);
  static Value Stateful(Kind kind, std::shared_ptr<StatefulObject> state);

  Kind kind() const { return kind_; }
  bool Is(Kind kind) const { return kind_ == kind; }
  bool missing() const { return kind_ == Kind::kMissing; }
  bool undefined() const { return kind_ == Kind::kUndefined; }
  bool none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_dict() const { return kind_ == Kind::kDict; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  // Has items(): list, tuple, range, view or iterator.
  bool has_items() const;
  bool is_integer() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integer() || kind_ == Kind::kFloat; }

  bool as_bool() const { return integer_ != 0; }
  int64_t as_int() const { return integer_; }  // of a bool too
  double as_float() const { return kind_ == Kind::kFloat ? float_ : double(integer_); }
  const StringObject& string() const;
  std::string_view text() const;     // of a string
  const MarkedText& marked() const;  // of a string
  bool safe() const;                 // a string that jinja2 has as Markup
  const std::vector<Value>& items() const;
  const ListObject& list() const;
  const DictObject& dict() const;
  Namespace& name_space() const { return *static_cast<Namespace*>(pointer_); }
  const Macro& macro() const { return *static_cast<const Macro*>(pointer_); }
  const Function& function() const { return *static_cast<const Function*>(pointer_); }
  const MethodObject& method() const;
  Loop& loop() const;
  StatefulObject& stateful() const;

  const Object* object() const { return object_.get(); }
  const void* pointer() const { return object_ ? object_.get() : pointer_; }
  int depth() const { return object_ ? object_->depth : 0; }

 private:
  explicit Value(Kind kind, int64_t integer = 0) : kind_(kind), integer_(integer) {}

  Kind kind_;
  union {
    int64_t integer_ = 0;
    double float_;
    void* pointer_;
  };
  std::shared_ptr<Object> object_;
};

struct StringObject : Object {
  MarkedText text;
  int64_t length = 0;  // in code points
  bool safe = false;
};

struct ListObject : Object {
  std::vector<Value> items;
  std::string_view name;  // of a view
  bool grouped = false;   // a pair of groupby: also .grouper and .list
  size_t next = 0;        // of an iterator
};

// In the order in which keys were added.
struct DictObject : Object {
  struct Entry {
    Value key, value;
  };
  const Value* Find(std::string_view key) const;
  const Value* Find(const Value& key) const;  // also null for keys that Python cannot hash
  void Set(const Value& key, const Value& value);

  std::vector<Entry> entries;

 private:
  int Index(const Value& key) const;
  std::unordered_multimap<uint64_t, int> index_;
};

struct MethodObject : Object {
  Value self;
  MethodBody body;
};

// cycler() and joiner().
struct StatefulObject : Object {
  std::vector<Value> items;
  size_t position = 0;
};

struct Function {
  std::string_view name;
  FunctionBody body;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* Find(std::string_view name);
};

// The variable `loop`.
struct Loop : Object {
  std::vector<Value> items;
  int64_t index0 = 0;
  int depth0 = 0;
  int changed = -1;  // where the interpreter keeps what changed() saw; it may be this loop
  const struct Stmt* recursive = nullptr;  // the loop that calling it enters again
  struct Scope* scope = nullptr;           // around that
};

struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Python's truth.
bool Truthy(const Value& value);
// "str", "list", "NoneType", ...
std::string_view TypeName(const Value& value);
// What Python can use as a key.
bool Hashable(const Value& value);
uint64_t HashOf(const Value& value);
// Equality of what can be a key; never deep.
bool KeysEqual(const Value& a, const Value& b);

}  // namespace mea::jinja
